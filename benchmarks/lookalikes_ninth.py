"""Six more kinds of look-alikes, written by somebody who had not read the rules of the search.

Handovers of flats, a vet's patients, graves of a parish, arrival notices of a shipping agent,
weekly returns of school kitchens and a paint maker's product sheets, as text, HTML, mail and
Markdown, each laid out in one of two ways. Every page has several values of the sort that is asked
for, such as a reading of each meter when the tenants came and when they left. Some pages name
another of their kind (a flat nearby, an animal of the same household, a grave of the same family,
another bill of lading, another week, another size). Cards of patients, and one of the two layouts
of graves, of returns and of paints, say the parts of their key apart. Questions name it as the page
does or in an ordinary variation: "14 Alder St, 3B", "the Hartnolls' Bella", "grave 7 in row 12 of
section C", a bill of lading without its letters, "week 23/2017", "the 2.5 litre tin".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache, partial
from itertools import islice

from lookalikes_data import Template, draw_keys, words
from lookalikes_pages import digits, filed, html, money, sentences, talk

__all__ = ["NINTH"]


def _items(text: str) -> list[str]:
    return " ".join(text.split()).split(", ")


_FIRST = words("""
    Albert Alice Amy Beatrice Bridget Cecil Clive Daisy Daphne Derek Dora Doris Edwin Elsie Emma
    Enid Ernest Ethel Florence Fred Gladys Gordon Harold Hilda Horace Ida Jack Jean Joan Kenneth
    Leslie Lilian Mabel Maud Mavis Nora Norman Olive Percy Phyllis Reginald Ronald Roy Sidney
    Stella Sylvia Thelma
""")
_LAST = words("""
    Angove Bolitho Carlyon Chenoweth Curnow Dingle Ferrier Gilbert Goldsworthy Hartnoll Hockin
    Jelbert Kitto Lanyon Moyle Nance Opie Pascoe Penhale Pengelly Polglase Prideaux Quick Retallack
    Rosewarne Rowe Sleeman Spargo Tangye Thorburn Tonkin Trelawny Tremain Trevena Trewin Tripp Uren
    Vellacott Vivian Warne Whetter Wearne Yelland Bray Kneebone Laity Nankervis Rodda Truscott
""")
_PETS = words("""
    Bella Poppy Molly Daisy Tilly Luna Rosie Ruby Lola Coco Millie Willow Honey Maisie Bonnie
    Pepper Alfie Charlie Max Oscar Buddy Toby Milo Archie Monty Jasper Barney Rufus Teddy Bruno
    Dexter Rex Smokey Tigger Simba Felix Ginger Misty Sooty Jess Socks Biscuit Pickle Clover
    Bramble Hazel Marmite Treacle Pudding Domino Gizmo Nelson Duke Murphy Benji Fudge Scamp Lucky
    Snowy Minty Dotty Pip Tess Skye Meg Fern Holly Ivy Jet Ozzy Rolo Ziggy Bandit Basil
""")
_STREETS = words("""
    Alder Bridge Canal Chapel Church Cross Duke Fore George High Hill Market Mill North Orchard
    Park Queen River School Station Union Victoria Water Wellington
""")
_SCHOOLS = _items("""
    Millbrook Primary, St Anne's Infants, Hillside Juniors, Parkfield Academy, Trenance School,
    Bishop Cornish School
""")
_WEEKS = (*range(2, 29), *range(36, 51))
_SIZES = ("0.5", "0.75", "1", "2.5", "5", "10")
_PAINTS = _items("""
    Deck Oil, Chalk Paint, Masonry Paint, Fence Stain, Floor Varnish, Yacht Varnish, Metal Primer,
    Wood Primer, Eggshell, Satinwood, Undercoat, Barn Paint, Shed Stain, Gloss, Floor Paint, Tile
    Paint, Radiator Enamel, Garden Furniture Oil, Limewash, Matt Emulsion, Silk Emulsion, Kitchen
    Emulsion, Window Frame Paint, Garage Door Paint
""")
_COLOURS = _items("""
    Teak, Ebony, Light Oak, Walnut, Duck Egg, Sage, Slate Grey, Pewter, Ivory, Magnolia, Pebble,
    Navy, Harbour Blue, Sky, Forest Green, Moss, Olive, Terracotta, Brick Red, Poppy Red, Burgundy,
    Mustard, Straw, Sand, Chestnut, Mahogany, Cedar, Charcoal, Pure White, Clear
""")

_HANDOVER = sentences("""
    Walls in the hall need one coat of paint. The oven is clean. Two bulbs in the bathroom are
    missing. The carpet in the bedroom has a burn the size of a coin. Windows open and close well.
    All smoke alarms were tested and work. The cellar is empty and swept. The letter box has been
    relabelled. A blind in the kitchen hangs on one side only. The washing machine belongs to the
    tenant and was taken away. The balcony was left with three plant pots.
""")
_VISITS = sentences("""
    Nervous in the waiting room, please book the first slot. Teeth need a scale before long. Eats a
    dry diet for sensitive stomachs. Ears cleaned, no mites. The owner pays by card. Nails clipped
    at each visit. Slight heart murmur, to be listened to again. Worming tablets are given in
    cheese. Had stitches in the left front paw. Do not lift without a muzzle. A urine sample was
    clear.
""")
_CHURCHYARD = sentences("""
    The kerb stones have sunk on the path side. The mason was asked to right the headstone. Fresh
    flowers are brought every month. The inscription is hard to read. A yew overhangs the plot. The
    plan of the churchyard was redrawn after the survey. No artificial flowers are permitted in
    this part. The vase was broken in a storm and has been removed. Ground is firm. The family
    lives abroad and writes at Christmas. A photograph of the stone is in the album.
""")
_SHIPPING = sentences("""
    Please send us the original endorsed on the back. Charges must reach us before the goods are
    released. Storage is charged by the terminal and not by us. Our opening hours are half past
    eight to five. The vessel was delayed by fog at the last port. Kindly check that the
    particulars agree with your order. Empty units go back to the same depot. Dangerous goods are
    not on this shipment. The haulier needs the number of the driver's pass. We act as agents only.
    Inspection by the port health office is possible at any time.
""")
_KITCHEN = sentences("""
    The combi oven was out of order on the Tuesday. Fish fingers ran out at the second sitting. Two
    new allergy cards were handed in. The fridge log is complete. The year six trip cut numbers on
    one day. A supply cook came for three days. The milk was short and made up from the shop. The
    hot trolley needs a new wheel. Roast day was the most popular again. The salad bar was hardly
    touched. Environmental health called and left no remarks.
""")
_PAINTING = sentences("""
    Stir well before and during use. Do not apply below eight degrees. Brushes are cleaned with
    warm soapy water. Two coats are enough on sound surfaces. The tin should be closed tightly and
    kept free of frost. Test a small area first. Knots are sealed beforehand. Dark shades may need
    a third coat. Keep out of the reach of children. Old flaking paint is scraped off and sanded.
    Empty tins go to the recycling centre.
""")
_STAFF = [f"{first} {last}" for first, last in zip(_FIRST[::5], _LAST[1::5], strict=False)]


def _person(chance: random.Random) -> str:
    return f"{chance.choice(_FIRST)} {chance.choice('ABCDEFGHJLMRSTW')}. {chance.choice(_LAST)}"


def _day(chance: random.Random, first: int, last: int) -> date:
    return date(first, 1, 1) + timedelta(days=chance.randrange(365 * (last - first)))


def _long(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _number(chance: random.Random, low: int, high: int) -> str:
    return str(chance.randrange(low, high))


@cache
def _known(place: int) -> list[str]:
    return [NINTH[place].said(key) for key in islice(draw_keys(NINTH[place]), 800)]


def _related(place: int, said: str, chance: random.Random, fits: Callable[[str], bool]) -> str:
    """Another document of the template, which fits; empty if none is mentioned."""
    others = [each for each in _known(place) if each != said and fits(each)]
    return chance.choice(others) if others and chance.random() < 0.7 else ""


def _handover(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _HANDOVER)
    flat, house = key.removeprefix("Flat ").split(", ")
    left = _day(c, 2012, 2025)
    came = left - timedelta(days=c.randrange(300, 3000))
    near = _related(0, key, c, lambda each: each.endswith(f", {house}"))
    tenant = _person(c)
    deposit = float(v["deposit"].replace(",", "")) + c.randrange(50, 300)
    meters = [
        (name, digits(c, 8), f"{int(v[name]) - c.randrange(900, 9000)}", v[name])
        for name in ("electricity", "gas", "water")
    ]
    if c.random() < 0.5:
        rows = "\n".join(
            f"{name.capitalize():12} no. {number}   in {before:>6}   out {after:>6}"
            for name, number, before, after in meters
        )
        above = f"Stain on the ceiling: see the report on {near}.\n" if near else ""
        return (
            f"HANDOVER RECORD\n{key}\n\nTenant: {tenant}\nMoved in: {came:%d/%m/%Y}\nMoved out: "
            f"{left:%d/%m/%Y}\nFor the office: {c.choice(_STAFF)}\n\nCONDITION\n{some(6)}\n{above}"
            f"\nMETERS\n{rows}\n\nKEYS\n{c.randrange(2, 5)} front door, {c.randrange(1, 4)} flat, "
            f"1 cellar. {some(1)}\n\nDEPOSIT\nPaid {deposit:,.2f}, kept for cleaning and repairs "
            f"{deposit - float(v['deposit'].replace(',', '')):,.2f}, to be returned "
            f"{v['deposit']}.\n"
        )
    above = f" The tenants of {near}, say that the noise has stopped." if near else ""
    read = "\n".join(
        f"- {name}: {after} (meter {number}; it was {before} on {came:%d.%m.%Y})"
        for name, number, before, after in meters
    )
    return (
        f"Moving out: {house}, flat {flat}\n\nI met {tenant} at the flat on {_long(left)}. "
        f"{some(7)}{above}\n\nI read the meters as follows.\n{read}\n\nOf the deposit of "
        f"{deposit:,.2f} pounds we agreed to return {v['deposit']}. {some(2)}\n\n"
        f"{c.choice(_STAFF)}\n"
    )


def _patient(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _VISITS)
    name, owner = key.split(" ")
    title = f"{c.choice(('Mr', 'Mrs', 'Ms'))} {c.choice('ABCDEFGHJKLMPRST')}. {owner}"
    kind = c.choice(("Dog, crossbreed", "Dog, spaniel", "Cat, domestic shorthair", "Dog, terrier"))
    house = _related(1, key, c, lambda each: each.endswith(f" {owner}"))
    born, seen = _day(c, 2010, 2022), _day(c, 2023, 2025)
    weight = c.randrange(30, 300) / 10
    due = {
        "Distemper and parvo": _long(_day(c, 2025, 2028)),
        "Leptospirosis": v["leptospirosis"],
        "Kennel cough": _long(_day(c, 2025, 2027)),
    }
    if c.random() < 0.5:
        rows = "\n".join(f"<tr><td>{what}</td><td>{when}</td></tr>" for what, when in due.items())
        other = f"<p>Same household: {house}.</p>\n" if house else ""
        return html(
            "Patient card",
            f"<p>Name: {name}<br>Owner: {title}<br>{kind}, born {_long(born)}<br>Phone: 01872 "
            f"{digits(c, 6)}</p>\n<p>Microchip: {v['chip']}<br>Pet passport: GB {digits(c, 9)}<br>"
            f"Insurance policy: {v['policy']}</p>\n{other}<h2>Notes</h2>\n<p>{some(7)}</p>\n"
            f"<h2>Vaccinations</h2>\n<table>\n<tr><th>Against</th><th>Next due</th></tr>\n{rows}\n"
            f"</table>\n<p>Last seen on {_long(seen)} by {c.choice(_STAFF)}, {weight} kg.</p>",
        )
    rows = "; ".join(f"{what.lower()} on {when}" for what, when in due.items())
    other = f" Often comes together with {house}." if house else ""
    return html(
        f"{name} ({title})",
        f"<p>{kind}. First seen as a new patient on {_long(seen - timedelta(days=400))}.{other} "
        f"{some(5)}</p>\n<h2>Last visit</h2>\n<p>{_long(seen)}, {c.choice(_STAFF)}. {weight} kg. "
        f"{some(3)}</p>\n<h2>Next boosters</h2>\n<p>Due: {rows}.</p>\n<h2>Numbers</h2>\n<ul>\n"
        f"<li>Chip: {v['chip']}</li>\n<li>Old chip, no longer readable: 9851{digits(c, 11)}</li>\n"
        f"<li>Insured under: {v['policy']}</li>\n<li>Account: {digits(c, 6)}</li>\n</ul>",
    )


def _grave(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _CHURCHYARD)
    lines = key.replace(", ", "\n")
    family = _related(2, key, c, lambda each: each[:9] == key[:9])
    bought = _day(c, 1930, 1990)
    first = bought + timedelta(days=c.randrange(3, 14))
    second = first + timedelta(days=c.randrange(2000, 9000))
    if c.random() < 0.5:
        other = f"Same family: {family}\n" if family else ""
        return (
            f"GRAVE REGISTER\n\n{lines}\n\nDeed of grant: {v['deed']}\nGranted: {_long(bought)}\n"
            f"Replaces deed: {digits(c, 5)}\nRights held by: {v['holder']}\n{other}\nBURIALS\n"
            f"1. {v['first']}, {_long(first)}, depth 7 feet\n2. {v['second']}, {_long(second)}, "
            f"depth 5 feet\n\nREMARKS\n{some(7)} Entry checked by {c.choice(_STAFF)}.\n"
        )
    other = f" Part of the family lies in {family}." if family else ""
    return (
        f"{key}\n\nThe plot was granted on {_long(bought)} under deed {v['deed']}, after deed "
        f"{digits(c, 5)} for another plot had been given back.{other} {some(4)}\n\nThe first burial"
        f" was that of {v['first']} on {_long(first)}; {v['second']} followed on "
        f"{_long(second)}. {some(3)}\n\nThe rights have passed to {v['holder']}, who was told of "
        f"the churchyard rules by {c.choice(_STAFF)}. {some(1)}\n"
    )


def _arrival(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _SHIPPING)
    ship = f"{c.choice(('Ocean', 'Nordic', 'Baltic', 'Atlantic'))} {c.choice(_PETS)}"
    arrives = _day(c, 2016, 2025)
    goods = c.choice(("ceramic tiles", "garden furniture", "bicycle parts", "tinned fruit"))
    other = _related(3, key, c, lambda each: each[:4] == key[:4])
    firm = f"{c.choice(_LAST)} & {c.choice(('Sons', 'Daughters', 'Partners'))}"
    writer = c.choice(_STAFF)
    sent = arrives - timedelta(days=c.randrange(3, 9))
    documents = money(c, 30, 90)
    head = (
        f"From: {writer} <{writer.lower().replace(' ', '.')}@falquay-agency.example>\n"
        f"To: {firm} <imports@{firm.split()[0].lower()}.example>\nSubject: {{subject}}\n"
        f"Date: {sent:%a, %d %b %Y} {c.randrange(8, 18):02}:{c.randrange(60):02}:00 +0000\n"
        f"Message-ID: <{digits(c, 10)}@falquay-agency.example>\n\n"
    )
    if c.random() < 0.5:
        same = f"On the same vessel: {other}\n" if other else ""
        return head.format(subject=f"Arrival notice {key}") + (
            f"Dear customer,\n\nyour goods are about to arrive. {some(3)}\n\nBill of lading: {key}"
            f"\nVessel: {ship}\nExpected: {_long(arrives)}\nGoods: {goods}, {c.randrange(8, 24)} t"
            f"\n{same}Release reference: {v['release']}\nCustoms reference: {digits(c, 7)}\n\n"
            f"Ocean freight: USD {v['freight']}\nTerminal handling: GBP {v['handling']}\n"
            f"Documentation: GBP {documents}\n\n{some(5)}\n\nYours faithfully\n{writer}\n"
        )
    same = f" This has nothing to do with {other}, for which we wrote before." if other else ""
    return head.format(subject=f"{goods.capitalize()} on the {ship}, B/L {key[:4]} {key[4:]}") + (
        f"Good morning,\n\nthe {ship} is due on {_long(arrives)} with your {goods}.{same} {some(4)}"
        f"\n\nThese are the charges. The freight comes to {v['freight']} dollars, terminal "
        f"handling to {v['handling']} pounds and our documentation fee to {documents} pounds. "
        f"{some(3)}\n\nOnce this is settled, the driver can collect with release reference "
        f"{v['release']}. The terminal may also ask for the booking, {digits(c, 7)}. {some(1)}\n\n"
        f"Kind regards\n{writer}\n"
    )


def _return(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _KITCHEN)
    school, week, year = key.split(", ")
    monday = date.fromisocalendar(int(year), int(week.split()[1]), 1)
    days = f"{_long(monday)} to {_long(monday + timedelta(days=4))}"
    before = _related(4, key, c, lambda each: each.startswith(school) and each.endswith(year))
    cook = c.choice(_STAFF)
    adults = c.randrange(20, 90)
    if c.random() < 0.5:
        link = f"<p>Correction sent in as well: {before}.</p>\n" if before else ""
        return html(
            f"Kitchen return: {school}",
            f"<p>{week.capitalize()}, {year} ({days})<br>Cook: {cook}</p>\n<h2>Events</h2>\n"
            f"<p>{some(7)}</p>\n{link}<h2>Meals</h2>\n<table>\n<tr><th>Meals</th><th>Number</th>"
            f"</tr>\n<tr><td>Free</td><td>{v['free']}</td></tr>\n<tr><td>Paid</td><td>{v['paid']}"
            f"</td></tr>\n<tr><td>Adults</td><td>{adults}</td></tr>\n</table>\n<h2>Money</h2>\n"
            f"<p>Banked £{v['banked']} with paying-in slip {v['slip']}; carried forward "
            f"£{money(c, 5, 60)}.</p>",
        )
    link = f" The figures of {before}, were corrected by telephone." if before else ""
    return html(
        f"{school}, week {week.split()[1]} of {year}",
        f"<p>Sent in by {cook} for {days}. {some(5)}{link}</p>\n<p>We served {v['free']} free and "
        f"{v['paid']} paid meals to pupils and {adults} to staff and guests. {some(3)}</p>\n<p>"
        f"Slip {v['slip']} went to the bank with £{v['banked']}, and £{money(c, 5, 60)} are in the "
        f"safe. The slip that was spoilt is {digits(c, 6)}. {some(1)}</p>",
    )


def _paint(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _PAINTING)
    paint, colour, size = key.split(", ")
    other = _related(5, key, c, lambda each: each.startswith(f"{paint}, {colour}, "))
    retail = float(v["trade"]) * 1.6
    if c.random() < 0.5:
        link = f"\nAlso in stock: {other}\n" if other else ""
        return (
            f"# {key}\n\n{some(3)}\n{link}\n## Use\n\n{some(6)}\n\n## Ordering\n\n"
            f"| | Tin | Box |\n|---|---|---|\n| Article | {v['article']} | {digits(c, 6)} |\n"
            f"| EAN | {v['ean']} | 50{digits(c, 11)} |\n\n## Prices\n\nTrade £{v['trade']}, retail "
            f"£{retail:.2f}, for schools £{retail * 0.8:.2f}.\n"
        )
    link = f" If it is out of stock, offer {other}." if other else ""
    return (
        f"# {paint}\n\nColour: {colour}  \nSize: {size}\n\n{some(6)}{link}\n\n## For the shop\n\n"
        f"The tin is article {v['article']} and the shelf strip {digits(c, 6)}. The bar code on "
        f"the tin reads {v['ean']}, that on the box 50{digits(c, 11)}. {some(1)}\n\n## What it "
        f"costs\n\nPrivate customers pay £{retail:.2f}. The trade price is £{v['trade']}. "
        f"{some(2)}\n"
    )


_Named = partial(Template, distinct=True)
NINTH = (
    _Named(
        "flat handover",
        "mixed",
        lambda c: (c.choice("123456") + c.choice("ABCD"), _number(c, 2, 20), c.choice(_STREETS)),
        lambda key: f"Flat {key[0]}, {key[1]} {key[2]} Street",
        lambda c: {
            **{name: _number(c, 10_000, 99_999) for name in ("electricity", "gas", "water")},
            "deposit": money(c, 300, 1900),
        },
        filed("handovers", "txt"),
        _handover,
        {
            "electricity": (
                "What was the final electricity reading of flat {0}, {1} {2} Street?",
                "electricity reading at moving out, {1} {2} St, {0}",
            ),
            "gas": ("Which gas reading did we take when {1} {2} Street, flat {0}, was vacated?",),
            "water": ("What did the water meter of {0}, {1} {2} St say at the end?",),
            "deposit": ("How much of the deposit do we return for {1} {2} Street, flat {0}?",),
        },
    ),
    _Named(
        "vet's patient",
        "name",
        lambda c: (c.choice(_PETS), c.choice(_LAST)),
        " ".join,
        lambda c: {
            "chip": f"9851{digits(c, 11)}",
            "leptospirosis": _long(_day(c, 2025, 2028)),
            "policy": f"PP/{digits(c, 6)}",
        },
        filed("patients", "html"),
        _patient,
        {
            "chip": ("What's the microchip number of {0} {1}?", "chip number of the {1}s' {0}"),
            "leptospirosis": ("When is {0} {1} due for the next leptospirosis vaccination?",),
            "policy": ("Under which policy is {1}'s {0} insured?", "insurance policy {0} {1}"),
        },
    ),
    _Named(
        "grave",
        "number",
        lambda c: (c.choice("ABCDEFGH"), _number(c, 1, 25), _number(c, 1, 31)),
        lambda key: f"Section {key[0]}, Row {key[1]}, Grave {key[2]}",
        lambda c: {
            "deed": digits(c, 5),
            **{name: _person(c) for name in ("holder", "first", "second")},
        },
        filed("graves", "txt"),
        _grave,
        {
            "deed": ("What is the deed number of grave {2}, row {1}, section {0}?", "deed {key}"),
            "holder": ("Who holds the rights to grave {2} in row {1} of section {0}?",),
            "first": ("Who was buried first in section {0}, row {1}, grave {2}?",),
            "second": ("Whose was the second burial in {key}?",),
        },
    ),
    _Named(
        "arrival notice",
        "part",
        lambda c: (_number(c, 4_400_000, 4_900_000),),
        lambda key: ("FQLU", "NSKU", "BRTU", "OCMU")[int(key[0]) % 4] + key[0],
        lambda c: {
            "freight": money(c, 900, 6000),
            "handling": money(c, 120, 480),
            "release": f"RL-{digits(c, 6)}",
        },
        filed("arrivals", "eml"),
        _arrival,
        {
            "freight": ("How much is the freight for B/L {0}?", "ocean freight {key:.4} {0}"),
            "handling": ("What are the terminal handling charges for bill of lading {key}?",),
            "release": ("What's the release reference for {key:.4} {0}?", "release ref B/L {key}"),
        },
    ),
    _Named(
        "kitchen return",
        "date",
        lambda c: (c.choice(_SCHOOLS), str(c.choice(_WEEKS)), _number(c, 2009, 2025)),
        lambda key: f"{key[0]}, week {key[1]}, {key[2]}",
        lambda c: {
            "free": _number(c, 200, 1200),
            "paid": _number(c, 300, 1700),
            "banked": money(c, 600, 3900),
            "slip": digits(c, 6),
        },
        filed("kitchens", "html"),
        _return,
        {
            "free": ("How many free meals did {0} serve in week {1} of {2}?",),
            "paid": ("How many paid meals were there at {0} in week {1}, {2}?",),
            "banked": ("How much did {0} bank in week {1}/{2}?", "money banked, {key}"),
            "slip": ("paying-in slip {0} wk {1} {2}", "Which paying-in slip was used in {key}?"),
        },
    ),
    _Named(
        "paint",
        "version",
        lambda c: (c.choice(_PAINTS), c.choice(_COLOURS), c.choice(_SIZES)),
        lambda key: f"{key[0]}, {key[1]}, {key[2]} L",
        lambda c: {
            "article": digits(c, 6),
            "ean": f"50{digits(c, 11)}",
            "trade": f"{c.randrange(600, 9000) / 100:.2f}",
        },
        filed("paints", "md"),
        _paint,
        {
            "article": ("Article number of the {2} litre {0} in {1}?", "article no. of tin, {key}"),
            "ean": ("EAN of the tin, {0} {1} {2}L", "bar code of a {2} litre tin of {1} {0}"),
            "trade": ("What does the trade pay for {2} L of {0} in {1}?", "trade price {key}"),
        },
    ),
)
