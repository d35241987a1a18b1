"""Six more kinds of look-alikes, written by somebody who had not read the rules of the search.

Claim files, training records, daily production reports, procedures, discontinuation notices and
energy statements, as text, HTML, Markdown and mail, each laid out in one of two ways. Every page
has several values of the sort that is asked for, such as one number of packs for each line. Some
pages name another one of their kind (the claim before, the version that is superseded, the
successor of a part). Claim files, training records and production reports say their key only at
the top; in the others it also stands beside values. Questions name it as the page does or in an
ordinary variation: without prefix or hyphens, "v3.4", "Mar 14, 2019", a surname after the first
name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from itertools import islice

from lookalikes_data import Template, draw_keys, words
from lookalikes_pages import digits, filed, html, money, sentences, talk

__all__ = ["SEVENTH"]


def _items(text: str) -> list[str]:
    return " ".join(text.split()).split(", ")


_FIRST = words("""
    Adele Alan Amina Andrew Angela Arthur Barbara Becky Bernard Carol Catherine Charles Chloe
    Claire Colin Deborah Derek Diana Dominic Donna Duncan Edith Edward Ellen Eric Faye Gavin Gemma
    Geoffrey Gillian Grace Graham Harriet Helen Howard Imran Irene Janet Jason Joanne Karen Keith
    Kofi Laura Leonard Lorraine Malcolm Margaret Martin Melanie Neil Nicola Oliver Pamela Priya
    Rachel Raymond Robert Rosemary Ruth Sally Samuel Sarah Sheila Stuart Susan Terence Tracy
    Vincent Wendy
""")
# Whoever has a training record, and who else is named.
_STAFF = words("""
    Abernathy Adeyemi Atherton Bagshaw Bancroft Beresford Birch Blackwood Bradshaw Burgess Carrick
    Chaudhry Clifton Cosgrove Crane Cullen Danvers Delaney Dobson Duffield Eastwood Fairley Faulkner
    Fielding Forsyth Gaskell Gilmour Greenwood Gupta Haddon Hargreaves Hendry Hobbs Inglis Jessop
    Kapoor Kershaw Kirkby Lacey Lockwood Lyle Maddox Mallory Massey Mbeki Milburn Naylor Nuttall
    Osborne Parry Penrose Pickering Quigley Radford Renshaw Rowntree Sefton Shah Skelton Stanhope
    Tattersall Thackeray Tilney Underwood Venables Wardle Westbrook Wilkes Wycliffe Yardley
""")
_LAST = words("""
    Ainsworth Appleby Barlow Bellingham Carmody Chadwick Coates Dewhurst Easton Ferris Goddard
    Hallam Hawthorn Holroyd Jardine Kemble Lomax Marsden Mistry Nesbitt Okoro Pemberton Pritchard
    Redfern Rigby Sandhu Shelby Stokes Templeton Tunstall Unsworth Vickers Warburton Whitlock
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")

_LOSSES = (
    ("escape of water", "A pipe under the kitchen sink had burst while nobody was at home."),
    ("storm", "Ridge tiles came off in the night and went through the conservatory roof."),
    ("theft", "The shed had been forced open and the tools were gone in the morning."),
    ("collision", "The insured car was hit from behind while waiting at a roundabout."),
    ("fire", "A tea towel left on the hob caught fire, and the smoke reached the landing."),
    ("glass", "The shop window was found cracked from top to bottom on a Monday."),
    ("fallen tree", "The neighbour's ash came down across the drive and the garage."),
    ("lightning", "Lightning struck the aerial and damaged the wiring upstairs."),
)
_CLAIM = sentences("""
    Photographs were received by email and are on the file. The claimant was helpful and answered
    every question on the phone. Receipts are available for the larger items only. There is no sign
    of wear that would have to be deducted. The neighbours had noticed nothing. An interim payment
    was not asked for. No other insurance covers the loss. The premium was paid up to date. A
    reminder for the missing papers was sent after two weeks. Cause and cover are not in dispute.
    The bank details were checked before payment. There had been no loss in the three years before.
    Recovery from a third party was considered and given up. The claimant asked to be phoned in the
    evening. The form had been filled in by a relative. The original invoices were returned by post.
    Our handling time was within the target. The complaint about the first call was settled with an
    apology.
""")
_TRAINED = sentences("""
    Induction completed in the first week. Refresher courses are booked by the training office.
    Prefers courses in the morning because of the bus. The originals of all certificates are in the
    personnel file. Has asked for the advanced spreadsheet course. Took part in the evacuation drill
    in spring. May accompany new starters during their first month. No restrictions on lifting or
    night work. Course evaluation forms were handed in. Missed one toolbox talk and read the notes
    afterwards. Is willing to become an internal trainer. Knows the cold store and both loading
    bays.
""")
_SHOP = sentences("""
    The flour delivery came two hours late and was unloaded by the late shift. Two agency workers
    were trained on the packing table. Metal detector checks were made every hour without findings.
    The oven was brought up to temperature ten minutes behind plan. Cartons for the export order are
    running low. Quality took the usual samples, all within limits. Cleaning was finished before the
    end of the late shift. The film on the wrapper tore twice after a change of reel. One near miss
    was reported at the pallet lift. Overtime was not needed. The compressor was noisy, and
    engineering will look at it at the weekend. A school class was shown round after lunch. Two
    pallets were relabelled because the date was hard to read. The new dough hook was fitted and
    runs quietly. The late bus was cancelled, so six people started late. Sugar was short by one
    bag, which was written off. The auditor from the supermarket asked to see the cleaning
    plan.
""")
_STEPS = sentences("""
    Check that you are working from the current issue. Record the time, your initials and
    anything unusual. Tell the supervisor at once if a limit is not met. Put doubtful goods on
    hold with a red label. Do not start before the area has been cleared. Let a second person
    confirm the entry. Return tools and keys to the cabinet after use. Hand the completed
    papers to the quality office by noon. Wear the protective equipment shown at the entrance.
""")
_PROCEDURES = _items("""
    goods receiving, pest control, allergen cleaning, visitor access, complaint handling,
    glass breakage, product recall, supplier approval, metal detection, waste disposal, scale
    calibration, cold store monitoring, label printing, lockout and tagout, hand hygiene,
    sample retention, document control, internal audit, spill response, pallet inspection,
    water testing, key issue, contractor induction, data backup, accident reporting, rework,
    stock rotation, vehicle washing, oven start-up, lone working
""")
_GOODS = ("oat biscuits", "ginger snaps", "cheese crackers", "shortbread", "rye crispbread")
_SERIES = ("KM", "KL", "TR", "DX", "PV", "HS", "RB", "MZ")
_ARTICLE = ("limit switch", "terminal block", "relay", "pressure sensor", "gear motor", "encoder")
_NOTICE = sentences("""
    The supplier of the housing has closed down its tooling. Demand has fallen steadily over
    the last three years. Repairs of installed units will be possible for another five years.
    Orders placed after that date cannot be accepted. Confirmed orders are not affected.
    Larger quantities should be agreed with the sales office beforehand. Drawings and certificates
    can be downloaded from the product page. Last orders can be neither cancelled nor returned.
""")
_BUILDINGS = _items("""
    Harbour House, Mill Lane Depot, Priory Court, Weaver Hall, Station Road Clinic, Cedar
    Lodge, Tannery Studios, Beech Hill School, Canal Street Offices, Foundry Works, Market
    Hall, Albion Library, Quarry Bank Centre, Castlegate Baths, Elm Park Pavilion, Northfield
    Nursery, Victoria Annexe, Riverside Archive, Church Street Museum, Dyers Yard, Hope Street
    Hostel, Larkfield Stores, Abbey View, Observatory Building
""")
_ENERGY = sentences("""
    Readings were taken by the caretaker on the last working day. The heating ran on the
    weekend timetable during the holidays. The figures are adjusted neither for weather nor
    for occupancy. Half the corridor lights have now been changed to LED. The boiler was
    serviced during the period. The supplier's bill agrees with our own readings. The solar
    panels on the roof are metered separately. A window in the stairwell was found open over
    several nights. Please report dripping taps to the facilities desk. The tariff did not
    change.
""")


# Those who write the papers come up again and again.
_COLLEAGUES = [f"{first} {last}" for first, last in zip(_FIRST[::2], _LAST, strict=False)]


def _colleague(chance: random.Random) -> str:
    return chance.choice(_COLLEAGUES)


def _outsider(chance: random.Random, initials: str) -> str:
    return f"{chance.choice(_FIRST)} {chance.choice(initials)}. {chance.choice(_LAST)}"


def _batch(chance: random.Random) -> str:
    return f"{chance.choice('ABCDEFGH')}{digits(chance, 4)}{chance.choice('KLMNPRST')}"


def _old(chance: random.Random, kind: str) -> str:
    return f"{kind}-{chance.randrange(10_000, 50_000)}"


def _day(chance: random.Random, first: int, last: int) -> date:
    return date(chance.randrange(first, last), chance.randrange(1, 13), chance.randrange(1, 29))


def _month(chance: random.Random, first: int, last: int) -> str:
    return f"{chance.choice(_MONTHS)} {chance.randrange(first, last)}"


def _at(day: str) -> datetime:
    return datetime.strptime(day, "%d %B %Y")


@cache
def _first(place: int, count: int) -> list[str]:
    """How the first keys of a template are said."""
    template = SEVENTH[place]
    return [template.said(key) for key in islice(draw_keys(template), count)]


def _related(
    place: int, said: str, chance: random.Random, fits: Callable[[str], bool] | None = None
) -> str:
    """Another document of the template, which fits; empty if none is mentioned. In a small corpus
    it is not always there: not every paper has been kept."""
    known = _first(place, chance.choice((80, 800)))
    others = [each for each in known if each != said and (fits is None or fits(each))]
    return chance.choice(others) if others and chance.random() < 0.6 else ""


def _claim(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _CLAIM)
    opened = date(2000 + int(key[3:5]), c.randrange(1, 13), c.randrange(1, 29))
    loss = opened - timedelta(days=c.randrange(1, 12))
    paid = opened + timedelta(days=c.randrange(20, 90))
    kind, story = c.choice(_LOSSES)
    excess = c.choice((100, 150, 250, 350, 500))
    estimate = float(v["settlement"]) + excess
    other = estimate * (1 + c.randrange(4, 30) / 100)
    outsider = _outsider(c, "NPRSTW")
    before = _related(0, key, c, lambda each: each < key)
    if c.random() < 0.5:
        related = f"Related claim: {before} (same policyholder)\n" if before else ""
        return (
            f"CLAIM FILE {key}\nOpened {opened:%d/%m/%Y} by {_colleague(c)}\n{related}\n"
            f"Claimant: {v['claimant']}\nWitness: {outsider}\nPolicy number: {v['policy']}\n"
            f"Adjuster's reference: {v['adjuster']}\nPeril: {kind}\nDate of loss: "
            f"{loss:%d/%m/%Y}\n\nCIRCUMSTANCES\n{story} {some(6)}\n\n"
            f"QUANTUM\nFirst estimate {other:.2f}, second estimate {estimate:.2f}, excess "
            f"{excess}.00. {some(4)}\n\nOUTCOME\n{some(3)} Settled at "
            f"{v['settlement']} pounds and paid on {paid:%d/%m/%Y}.\n"
        )
    related = f" The claim follows on from {before}, which was closed." if before else ""
    return (
        f"File note\nClaim no. {key}, {kind}\n\n{_colleague(c)} spoke to the claimant, "
        f"{v['claimant']}, on {opened:%d/%m/%Y}.{related} {story} This was on {loss:%d/%m/%Y}. "
        f"{some(6)}\n\nCover is under policy {v['policy']}; the earlier "
        f"policy {_policy(c)} had been cancelled. {outsider} visited for the loss adjusters, "
        f"whose reference is {v['adjuster']}. {some(5)}\n\nThe first quotation was "
        f"{other:.2f} and the second, which was accepted, {estimate:.2f}. Less the excess "
        f"of {excess}.00 we paid {v['settlement']} in full and final settlement on "
        f"{paid:%d/%m/%Y}. {some(1)}\n"
    )


def _policy(chance: random.Random) -> str:
    return f"{chance.choice(('HH', 'MV', 'CP'))} {digits(chance, 7)}"


def _training(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _TRAINED)
    held = {
        "Manual handling": f"C-{digits(c, 6)}",
        "First aid at work": v["first aid"],
        "Food hygiene, level 2": f"C-{digits(c, 6)}",
        "Forklift truck": v["forklift"],
        "Fire warden": v["fire warden"],
    }
    partner = _related(1, key, c)
    team = c.choice(("Dispatch", "Bakery", "Packing", "Engineering", "Stores", "Laboratory"))
    since = c.randrange(2003, 2022)
    if c.random() < 0.5:
        rows = "\n".join(
            f"<tr><td>{course}</td><td>{number}</td><td>{_month(c, 2025, 2028)}</td></tr>"
            for course, number in held.items()
        )
        rota = f"<p>Shares the first aid rota with {partner}.</p>\n" if partner else ""
        return html(
            f"Training record: {key}",
            f"<p>{team}, with us since {since}. Line manager: {_colleague(c)}.</p>\n"
            f"<h2>General</h2>\n<p>{some(7)}</p>\n{rota}<h2>Certificates</h2>\n"
            "<table>\n<tr><th>Course</th><th>Certificate no.</th><th>Valid until</th></tr>\n"
            f"{rows}\n</table>\n<h2>Occupational health</h2>\n<p>Last medical in "
            f"{_month(c, 2021, 2024)}, fit without restrictions. Next medical: {v['medical']}. "
            f"Hearing test: {_slot(c, 2025)}.</p>",
        )
    items = "\n".join(
        f"<li>{course}: certificate {number}, issued {_month(c, 2021, 2025)}</li>"
        for course, number in held.items()
    )
    deputy = f" See also the record of {partner}, who deputises." if partner else ""
    return html(
        f"{key} – qualifications",
        f"<p>Department: {team}<br>Start: {_month(c, since, since + 1)}</p>\n<p>"
        f"{some(5)}{deputy}</p>\n<h2>Health surveillance</h2>\n<p>Eye test on "
        f"{_slot(c, 2025)}, medical on {v['medical']}, both in the first aid room. Bring glasses "
        f"and the vaccination card.</p>\n<h2>Courses passed</h2>\n<ul>\n{items}\n</ul>\n"
        f"<h2>Notes</h2>\n<p>{some(4)} Last checked by {_colleague(c)}.</p>",
    )


def _slot(chance: random.Random, year: int) -> str:
    day = date(year, 1, 6) + timedelta(days=chance.randrange(350))
    day -= timedelta(days=max(0, day.weekday() - 4))
    hour, minute = chance.randrange(8, 17), chance.randrange(0, 60, 5)
    return f"{day:%a} {day.day} {day:%b %Y}, {hour}:{minute:02}"


def _production(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _SHOP)
    made = c.sample(_GOODS, 3)
    batches = (_batch(c), v["batch"], _batch(c))
    packs = (v["line 1"], v["line 2"], v["line 3"])
    earlier = _related(2, key, c, lambda each: each[-5:] == key[-5:] and _at(each) < _at(key))
    down = c.randrange(10, 95, 5)
    if c.random() < 0.5:
        rows = "\n".join(
            f"| {n} | {made[n - 1]} | {batches[n - 1]} | {packs[n - 1]} |" for n in (1, 2, 3)
        )
        same = f" See also the report of {earlier}." if earlier else ""
        return (
            f"# Daily production report, {key}\n\nEarly shift: {_colleague(c)}. Late shift: "
            f"{_colleague(c)}. {c.randrange(38, 47)} of 48 people present.\n\n## Events\n\n"
            f"{some(7)}\n\n## Stoppages\n\nLine {c.randrange(1, 4)} stood still for "
            f"{down} minutes.{same} {some(5)}\n\n## Output\n\n"
            f"| Line | Product | Batch | Packs |\n|---|---|---|---|\n{rows}\n\n## Waste\n\n"
            f"{c.randrange(300, 900)} kg of dough and {c.randrange(40, 200)} kg of film.\n"
        )
    same = f"The wrapper jammed in the same way as on {earlier}. " if earlier else ""
    return (
        f"# Bakery, {key}\n\nReported by {_colleague(c)}\n\n{some(7)} {same}"
        f"{some(2)}\n\n## Line 1\n\nRan {made[0]}, batch {batches[0]}, and made "
        f"{packs[0]} packs. Downtime {down} minutes. {some(2)}\n\n## Line 2\n\nRan {made[1]}, "
        f"batch {batches[1]}, and made {packs[1]} packs. Downtime {c.randrange(5, 30, 5)} minutes. "
        f"{some(2)}\n\n"
        f"## Line 3\n\nRan {made[2]}, batch {batches[2]}, and made {packs[2]} packs.\n\n"
        f"## For tomorrow\n\n{some(2)}\n"
    )


def _procedure(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _STEPS)
    title, number = key.split(", version ")
    other = _related(3, key, c, lambda each: each.startswith(f"{title}, "))
    older = bool(other) and other < key
    year = int(v["effective"][:4])
    review = _month(c, year + 2, year + 4)
    if c.random() < 0.5:
        steps = "\n".join(f"{n}. {step}" for n, step in enumerate([some(1) for _ in range(5)], 1))
        link = f"{'Supersedes' if older else 'Superseded by'}: {other}\n" if other else ""
        return (
            f"# {key}\n\nOwner: {_colleague(c)}\n{link}Effective from: {v['effective']}\n"
            f"Next review: {review}\n\n## Steps\n\n{steps}\n\n## Records\n\n{key}, is used with "
            f"form {v['form']}. Form {_old(c, 'F')} is withdrawn. {some(1)}\n\n"
            f"## Training\n\nWhoever works to version {number} has passed module {v['module']}; "
            f"module {_old(c, 'TM')} is no longer enough.\n\n## Release\n\nVersion {number} was "
            f"released under change request {v['request']} and approved by {_colleague(c)}.\n"
        )
    link = (
        f" {other}, {'is hereby withdrawn' if older else 'has since been issued'}." if other else ""
    )
    return (
        f"# Standard operating procedure\n\n{key}\n\n## Scope\n\n{title} at all three sites."
        f"{link} {some(2)}\n\n## What to do\n\n{some(5)}\n\n"
        f"## About this version\n\nVersion {number} takes effect on {v['effective']}. It goes back "
        f"to change request {v['request']}; request {_old(c, 'CR')} was turned down. "
        f"{_colleague(c)} approved it, and it will be reviewed in {review}.\n\n"
        f"## Papers for version {number}\n\n- Form: {v['form']}\n- Checklist: {_old(c, 'F')}\n"
        f"- Training module: {v['module']}\n- Poster: P-{digits(c, 3)}\n"
    )


def _notice(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _NOTICE)
    last = datetime.strptime(v["last order"], "%d-%b-%Y").date()
    sent = last - timedelta(days=c.randrange(90, 300))
    sent -= timedelta(days=max(0, sent.weekday() - 4))
    ships = last + timedelta(days=120)
    article = c.choice(_ARTICLE)
    successor = _related(4, key, c, lambda each: each[:3] == key[:3])
    writer = _colleague(c)
    address = f"{writer.lower().replace(' ', '.')}@northgate-controls.example"
    head = (
        f"From: {writer} <{address}>\nTo: {{to}}@northgate-controls.example\nSubject: {{subject}}\n"
        f"Date: {sent:%a, %d %b %Y} {c.randrange(8, 18):02}:{c.randrange(60):02}:00 +0000\n"
        f"Message-ID: <{digits(c, 9)}@northgate-controls.example>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=utf-8\n\n"
    )
    if c.random() < 0.5:
        next_one = f"Successor: {successor}\n" if successor else "Successor: none planned\n"
        return head.format(to="sales", subject=f"Discontinuation of {article} {key}") + (
            f"Dear colleagues,\n\nplease inform your customers that the {article} {key} is being "
            f"discontinued. {some(3)}\n\nNotice number: {v['notice']}\n{next_one}"
            f"Last order date for {key}: {v['last order']}\n"
            f"Last shipments: Q{(ships.month + 2) // 3} {ships.year}\n"
            f"Stock of {key} today: {v['stock']}, of which {c.randrange(100, 900)} are "
            f"reserved\n\n{some(3)}\n\nKind regards\n{writer}\nProduct management\n"
        )
    tip = (
        f" Offer the {successor}, which has the same holes but a longer plug." if successor else ""
    )
    return head.format(to="purchasing", subject=f"{key} ({article}) is running out") + (
        f"Hello everybody,\n\njust so that nobody is surprised: we are phasing out the {key}."
        f"{tip} {some(2)}\n\nThe {key} can be ordered until {v['last order']}, and we "
        f"ship the last ones by {ships:%B %Y}. {some(2)}\n\nThere are still "
        f"{v['stock']} of the {key} in the warehouse and {c.randrange(100, 900)} with the "
        f"distributors. The official paper is notice {v['notice']}; it replaces the draft "
        f"PDN-{c.randrange(100_000, 200_000)}. {some(1)}\n\nRegards\n{writer}\n"
    )


def _statement(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _ENERGY)
    building, month = key.split(", ")
    other = _related(
        5,
        key,
        c,
        lambda each: (
            each.startswith(f"{building}, ") and _at("1 " + each.split(", ")[1]) < _at("1 " + month)
        ),
    )
    power, heat = (float(v[name].replace(",", "")) for name in ("electricity", "gas"))
    water = c.randrange(80, 900)
    if c.random() < 0.5:
        link = f"<p>For comparison see {other}.</p>\n" if other else ""
        return html(
            f"Energy statement: {building}",
            f"<p>Period: {month}. Prepared by {_colleague(c)}, facilities.</p>\n<p>{some(4)}</p>\n"
            f"{link}<table>\n<caption>Consumption, {key}</caption>\n"
            f"<tr><th>Supply</th><th>Quantity</th><th>Unit</th></tr>\n"
            f"<tr><td>Electricity</td><td>{v['electricity']}</td><td>kWh</td></tr>\n"
            f"<tr><td>of which at night</td><td>{power * c.randrange(20, 40) / 100:,.1f}</td>"
            f"<td>kWh</td></tr>\n<tr><td>Gas</td><td>{v['gas']}</td><td>kWh</td></tr>\n"
            f"<tr><td>Water</td><td>{water}</td><td>m³</td></tr>\n</table>\n"
            f"<p>The total cost for {key}, is £{v['cost']}, of which £{money(c, 60, 400)} are "
            f"standing charges. {some(2)}</p>",
        )
    link = f" Compare {other}, when the meters were changed." if other else ""
    return html(
        f"{key}: energy and water",
        f"<p>{some(3)}{link}</p>\n<h2>Electricity and gas, {key}</h2>\n<p>The "
        f"building used {v['electricity']} kWh of electricity, {c.randrange(2, 19)} % "
        f"{c.choice(('more', 'less'))} than planned. Gas came to {v['gas']} kWh, of which "
        f"{heat * c.randrange(8, 25) / 100:,.1f} kWh were for hot water. {some(2)}</p>"
        f"\n<h2>Water, {key}</h2>\n<p>{water} m³, as read by {_colleague(c)}.</p>\n"
        f"<h2>Cost, {key}</h2>\n<p>All supplies together cost £{v['cost']}; a deposit of "
        f"£{money(c, 500, 2000)} had been paid. {some(1)}</p>",
    )


SEVENTH = (
    Template(
        "claim file",
        "number",
        lambda c: (str(c.randrange(14, 25)), f"{c.randrange(1, 20_000):05}"),
        lambda key: f"CL-{key[0]}-{key[1]}",
        lambda c: {
            "claimant": _outsider(c, "ABCDEGHJKLM"),
            "policy": _policy(c),
            "adjuster": f"LA/{digits(c, 5)}/{c.choice('DKMT')}",
            "settlement": f"{c.randrange(100_000, 900_000) / 100:.2f}",
        },
        filed("claims", "txt"),
        _claim,
        {
            "claimant": ("Who is the claimant in {key}?", "claimant {0}-{1}"),
            "policy": (
                "What's the policy number for claim {key}?",
                "Under which policy was claim {0}-{1} made?",
            ),
            "adjuster": ("What is the loss adjuster's reference in claim {key}?",),
            "settlement": (
                "How much did we pay out on {key}?",
                "What was claim {0}-{1} settled at?",
                "settlement amount claim {key}",
            ),
        },
        distinct=True,
    ),
    Template(
        "training record",
        "name",
        lambda c: (c.choice(_FIRST), c.choice(_STAFF)),
        lambda key: f"{key[1]}, {key[0]}",
        lambda c: {
            "first aid": f"C-{digits(c, 6)}",
            "forklift": f"C-{digits(c, 6)}",
            "fire warden": f"C-{digits(c, 6)}",
            "medical": _slot(c, 2026),
        },
        filed("training", "html"),
        _training,
        {
            "first aid": (
                "What is the number of {0} {1}'s first aid certificate?",
                "{key} first aid certificate number",
            ),
            "forklift": (
                "Which forklift certificate does {0} {1} hold?",
                "forklift certificate no. {0} {1}",
            ),
            "fire warden": ("Number of the fire warden certificate of {0} {1}?",),
            "medical": ("When is {0} {1}'s medical?", "{key}: date and time of next medical"),
        },
        distinct=True,
    ),
    Template(
        "daily production report",
        "date",
        lambda c: (str(c.randrange(1, 29)), c.choice(_MONTHS), str(c.randrange(2011, 2025))),
        " ".join,
        lambda c: {
            "line 1": f"{c.randrange(200_000, 800_000):,}",
            "line 2": f"{c.randrange(200_000, 800_000):,}",
            "line 3": f"{c.randrange(200_000, 800_000):,}",
            "batch": _batch(c),
        },
        filed("production", "md"),
        _production,
        {
            "line 1": ("How many packs did line 1 make on {key}?", "line 1 output {1:.3} {0}, {2}"),
            "line 2": (
                "How many packs came off line 2 on {1} {0}, {2}?",
                "What was the output of line 2 on {key}?",
            ),
            "line 3": ("How much did line 3 produce on {0} {1:.3} {2}?",),
            "batch": ("Which batch ran on line 2 on {key}?", "batch line 2, {1} {0} {2}"),
        },
        distinct=True,
    ),
    Template(
        "procedure",
        "version",
        lambda c: (c.choice(_PROCEDURES), f"{c.randrange(1, 9)}.{c.randrange(0, 10)}"),
        lambda key: f"{key[0].capitalize()}, version {key[1]}",
        lambda c: {
            "effective": str(_day(c, 2012, 2025)),
            "form": f"F-{c.randrange(50_000, 100_000)}",
            "module": f"TM-{c.randrange(50_000, 100_000)}",
            "request": f"CR-{c.randrange(50_000, 100_000)}",
        },
        lambda key, _: f"procedures/{key[0].replace(' ', '-')}-v{key[1]}.md",
        _procedure,
        {
            "effective": (
                "From when does version {1} of the {0} procedure apply?",
                "When did {0} v{1} take effect?",
            ),
            "form": ("Which form do I use with {0}, version {1}?", "form number for {0} v{1}"),
            "module": ("Which training module goes with {0} version {1}?",),
            "request": ("What was the change request for v{1} of {0}?",),
        },
        distinct=True,
    ),
    Template(
        "discontinuation notice",
        "part",
        lambda c: (c.choice(_SERIES), digits(c, 4), c.choice("ABCDEF")),
        "-".join,
        lambda c: {
            "last order": f"{_day(c, 2013, 2027):%d-%b-%Y}",
            "stock": f"{c.randrange(2_000, 90_000):,} pcs",
            "notice": f"PDN-{c.randrange(200_000, 1_000_000)}",
        },
        filed("notices", "eml"),
        _notice,
        {
            "last order": (
                "Until when can we still order {key}?",
                "last order date {0}{1}{2}",
                "What is the last order date of the {0} {1} {2}?",
            ),
            "stock": ("How many {key} are left in stock?", "remaining stock of {0}{1}-{2}"),
            "notice": ("What's the number of the discontinuation notice for {key}?",),
        },
        distinct=True,
    ),
    Template(
        "energy statement",
        "mixed",
        lambda c: (c.choice(_BUILDINGS), c.choice(_MONTHS), str(c.randrange(2011, 2025))),
        lambda key: f"{key[0]}, {key[1]} {key[2]}",
        lambda c: {
            "electricity": f"{c.randrange(100_000, 900_000) / 10:,.1f}",
            "gas": f"{c.randrange(100_000, 900_000) / 10:,.1f}",
            "cost": money(c, 3_000, 30_000),
        },
        filed("energy", "html"),
        _statement,
        {
            "electricity": (
                "How much electricity did {0} use in {1} {2}?",
                "{0} electricity {1:.3} {2}",
            ),
            "gas": ("What was the gas consumption of {0} in {1} {2}?", "kWh of gas, {key}"),
            "cost": (
                "What did energy and water cost at {0} in {1} {2}?",
                "total energy cost {0} {1} {2}",
            ),
        },
        distinct=True,
    ),
)
