"""Six more kinds of look-alikes, written by somebody who had not read the rules of the search.

Daily takings of a restaurant, purchase orders, calibration certificates, reports on the pupils of a
music school, a publisher's title sheets and editions of manuals, as text, mail, HTML and Markdown,
each laid out in one of two ways. Every page has several values of the sort that is asked for, such
as an ISBN for each binding. Some pages name another one of their kind (the order that is replaced,
the previous certificate, a sister, the first book of a series, the next edition). Takings and
reports on pupils say their key only at the top; in the others it mostly stands beside values as
well. Questions name it as the page does or in an ordinary variation: "14 March 2017" for
"Tue 14/03/2017", "0482PR19" for "0482/PR/19", "E. Lockwood" for "Ella Lockwood", a title without
its article, "edition 3" for "3rd edition".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from itertools import islice

from lookalikes_data import Key, Template, draw_keys, words
from lookalikes_pages import digits, filed, html, money, sentences, talk

__all__ = ["EIGHTH"]


_FIRST = words("""
    Adrian Agnes Alistair Annette Beatrice Benedict Bridget Callum Cecily Clive Cynthia Desmond
    Dorothy Edmund Eleanor Esther Frances Gareth Geraldine Gregory Heather Hilary Jasper Jeremy
    Jocelyn Judith Kenneth Leila Louise Marcus Marion Maureen Miriam Nigel Norman Patricia Stella
""")
_LAST = words("""
    Aldous Baines Bickerton Calloway Cartwright Dalby Darnley Eccles Fairbairn Gledhill Halliwell
    Hepworth Ibbotson Jarrold Kaur Kilburn Lambourne Lister Mackay Mehta Northcott Oduya Oldroyd
""")
# Everybody's first name begins with another letter, so that "E. Lockwood" is one pupil.
_PUPILS = words("""
    Alice Ben Clara Daniel Ella Finn Grace Harry Isla Jack Kezia Lily Max Noah Oscar Poppy Ruby Sam
    Theo Una Violet Will Yasmin Zara
""")
_FAMILIES = words("""
    Abbot Acheson Adair Ahmed Amos Anstey Archer Asante Bale Banerjee Barton Begum Bell Benton Blake
    Bolt Boyd Brook Byrne Cairns Carey Castle Chan Choudhury Clegg Cole Conway Cope Costa Cross
    Curran Dale Das Diaz Dixon Doyle Drake Dunn Edge Ellis Esposito Eze Farr Finch Foley Frost
    Gale Gibb Gomez Goode Gould Grant Guest Hale Hassan Heath Hirst Holt Hume Hurst Iqbal Ives Jain
    Joyce Judd Keane Khan Kirk Lamb Lane Lockwood Lund Mace Malik Marsh Mensah Moss Nash Neale
    Nkosi Noble Nunn Obi Orr Page Patel Peck Pike Platt Poole Pratt Qureshi Rana Read Reyes Rhodes
    Rowe Sands Sharp Shaw Silva Stone Swann Teague Todd Vale Voss Wade Walsh Webb Wolfe Wren Zaman
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")

_DINING = sentences("""
    The coffee machine was descaled before opening. Two tables cancelled because of the rain. The
    dairy delivered one crate too few. A walking group came in without a booking. The card reader
    at the bar lost its connection for a while. The terrace stayed open until dusk. The fish special
    was gone before the end of lunch. A guest left an umbrella, which is in the office. The new
    waiter was shown how to split a bill. The dishwasher was repaired in the afternoon. The birthday
    party in the back room had the set menu. Bread was fetched from the corner shop. The extractor
    fan is still too loud. A regular asked about the private room for an anniversary. The ice
    machine was switched off overnight. One complaint about a cold soup was settled with a dessert.
    The window boxes were planted. A food critic may have been in, at the table by the door.
""")
_BUYING = sentences("""
    The usual terms apply. Packaging can be handed back to the carrier. Test reports travel with the
    goods. Pallets are no higher than two metres. Part deliveries are agreed beforehand. Long items
    come on a separate lorry. Visible damage is to be reported within five days. Payment is due
    thirty days after receipt. Safety data sheets are sent in advance. The driver needs a signature
    at the gate. Colours are as in the sample. Prices include packing. Labels show the article
    number and the date of packing. Drawings are treated as confidential.
""")
_SUPPLIES = (
    ("hinge brackets", "hexagon bolts", "spring washers"),
    ("drill bits", "grinding discs", "hacksaw blades"),
    ("safety gloves", "ear defenders", "overalls"),
    ("copper tubes", "elbow fittings", "pipe clips"),
)
_FIELDS = {
    "EL": ("mV", ("multimeter", "process calibrator", "voltage source")),
    "FL": ("l/min", ("flow meter", "rotameter", "gas meter")),
    "LE": ("mm", ("vernier caliper", "height gauge", "tape measure")),
    "MA": ("g", ("laboratory balance", "platform scale", "counting scale")),
    "PR": ("bar", ("pressure gauge", "pressure transmitter", "dead-weight tester")),
    "TE": ("°C", ("glass thermometer", "thermocouple", "climate logger")),
}
_CUSTOMERS = ("Ashdown Dairy", "Crosby Castings", "Hollins Textiles", "Lakeside Brewery")
_MEASURED = sentences("""
    The instrument was cleaned and left to settle overnight. Each point was approached once from
    below and once from above. The mean of three readings is stated. No adjustment was made. The
    room was kept at twenty degrees within one degree. Transport was by the customer's own driver.
    The housing has a scratch that does not affect the reading. The standards used are traceable to
    national standards. The expanded uncertainty covers about ninety-five per cent. The results
    apply only to the instrument in the state in which it was received. This certificate may be
    copied only as a whole. The zero was checked before and after. The customer chooses the date of
    the next calibration. The protective cap was missing and has been replaced. Humidity was
    recorded throughout. The operating instructions of the maker were followed.
""")
_PLAYED = sentences("""
    Sight-reading is coming along well. Practice at home has been regular since half-term. Rhythm is
    secure, and counting aloud has helped. The piece for the recital was learnt by heart. Scales
    still need patience and a slower tempo. A good ear makes up for hurried reading. Posture has
    become much more relaxed. The dynamic markings are now noticed without a reminder. Theory
    homework was handed in on time. It is a pleasure to hear so warm a tone. The duet at the summer
    concert went very well. Please bring a pencil and the blue book every week. Two lessons were
    missed through illness and have been made up. Listening to recordings would help with phrasing.
""")
_INSTRUMENTS = ("cello", "violin", "clarinet", "flute", "trumpet", "French horn", "oboe", "viola")
_HEROES = words("""
    Admiral Ambassador Apothecary Archivist Astronomer Baker Beekeeper Bookbinder Botanist Captain
    Carpenter Cartographer Chemist Clockmaker Collector Dancer Doctor Engraver Falconer Farmer
    Ferryman Fisherman Gardener Glassblower Goldsmith Governess Housekeeper Huntsman Innkeeper Judge
    Lamplighter Librarian Locksmith Magician Miller Organist Orphan Perfumer Photographer Pilgrim
    Postman Potter Printer Saddler Sailor Sculptor Sexton Shepherd Signalman Smuggler Stonemason
    Stranger Surgeon Swimmer Tailor Translator Tutor Violinist Weaver Widow
""")
_THINGS = words("""
    Apprentice Bride Brother Confession Daughter Debt Dream Fever Garden Ghost Gift Harbour Harvest
    Hour House Inheritance Island Journey Key Kitchen Lantern Ledger Lesson Letter Map Mirror
    Mistake Notebook Oath Orchard Portrait Promise Refuge Return Secret Shadow Silence Song Summer
    Tide Trunk Voyage Wife Window Winter
""")
_BLURB = sentences("""
    A quiet novel about what families keep from one another. Early readers have praised its sense of
    place. The author grew up near the coast and now teaches evening classes. Reading groups will
    find plenty to argue about. The cover shows a woodcut in two colours. Proof copies are available
    from the publicity desk. A tour of independent bookshops is being planned. The story moves
    between two summers that lie thirty years apart. Audio rights have been sold, film rights are
    free. An excerpt will appear in a weekend supplement. The last chapter will divide opinion. Big
    themes are handled with a light touch. The manuscript was read in one night by everybody in the
    office. Posters and bookmarks can be ordered. Translations into two languages are under way.
""")
_STOVES = words("""
    Arden Brae Cairn Corran Dunmore Elgin Fairlie Fenwick Glen Hartland Islay Jura Kestrel Lomond
    Lorne Moray Nairn Orrin Rannoch Skye Tarn Torrin Ullin Yarrow
""")
_SIZES = words("4 5 6 7 8 9 10 12 14 16 20 25")
_EDITIONS = words("1st 2nd 3rd 4th 5th 6th 7th 8th 9th")
_REVISED = sentences("""
    The chapter on cleaning the glass was written afresh. All drawings now show the stove from the
    front. The warning about damp wood comes before the first lighting. The guarantee card has moved
    to the back. Names of parts agree with the spare parts list. The paragraph on chimneys was
    shortened after a remark by the sweep. A table of common faults was added. The paper is a little
    heavier than before. Photographs were taken in the showroom. Two misprints in the index were put
    right. The address of the service desk is new. The translators were given a list of terms. Old
    copies are to be recycled, not sold. Dealers get one copy with each stove. The page on disposal
    follows the new rules. The file for the website is made by the printer.
""")


# Those who write the papers come up again and again.
_COLLEAGUES = [f"{first} {last}" for first, last in zip(_FIRST[::2], _LAST, strict=False)]


def _colleague(chance: random.Random) -> str:
    return chance.choice(_COLLEAGUES)


def _author(chance: random.Random) -> str:
    return f"{chance.choice(_FIRST[1::2])} {chance.choice(_LAST)}"


def _sum(money: str) -> float:
    return float(money.replace(",", ""))


def _deviation(chance: random.Random) -> str:
    return f"{chance.choice('+-')}0.{chance.randrange(100, 10_000):04}"


def _weekly(chance: random.Random) -> str:
    hour, minute = chance.randrange(14, 20), chance.randrange(0, 60, 5)
    day = chance.choice(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat"))
    return f"{day} {hour}:{minute:02}, room {chance.randrange(1, 13)}"


def _isbn(chance: random.Random) -> str:
    parts = ["978", "1", str(chance.randrange(4831, 4834)), f"{chance.randrange(10_000):04}"]
    total = sum(int(sign) * (3 if n % 2 else 1) for n, sign in enumerate("".join(parts)))
    return "-".join([*parts, str(-total % 10)])


def _manual_order(chance: random.Random) -> str:
    return f"{chance.randrange(70, 80)}.{digits(chance, 4)}"


def _day(chance: random.Random, first: int, last: int) -> date:
    """A working day."""
    day = date(chance.randrange(first, last), chance.randrange(1, 13), chance.randrange(3, 29))
    return day - timedelta(days=max(0, day.weekday() - 4))


def _long(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _dated(key: Key) -> str:
    return f"{date(int(key[2]), _MONTHS.index(key[1]) + 1, int(key[0])):%a %d/%m/%Y}"


def _at(day: str) -> datetime:
    return datetime.strptime(day, "%a %d/%m/%Y")


@cache
def _first(place: int, count: int) -> list[str]:
    """How the first keys of a template are said."""
    template = EIGHTH[place]
    return [template.said(key) for key in islice(draw_keys(template), count)]


def _related(place: int, said: str, chance: random.Random, fits: Callable[[str], bool]) -> str:
    """Another document of the template, which fits; empty if none is mentioned. In a small corpus
    it is not always there: not every paper has been kept."""
    known = _first(place, chance.choice((80, 800)))
    others = [each for each in known if each != said and fits(each)]
    return chance.choice(others) if others and chance.random() < 0.6 else ""


def _takings(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _DINING)
    total = sum(_sum(v[name]) for name in ("cash", "cards", "vouchers"))
    tips, short = money(c, 40, 300), money(c, 1, 12)
    lunch, dinner = c.randrange(20, 80), c.randrange(30, 120)
    earlier = _related(0, key, c, lambda each: each[-4:] == key[-4:] and _at(each) < _at(key))
    if c.random() < 0.5:
        as_on = f", as on {earlier}" if earlier else ""
        return (
            f"DAILY TAKINGS\n{key}\n\nManager: {_colleague(c)}\nClosed by: {_colleague(c)}\n"
            f"Covers: {lunch} at lunch, {dinner} at dinner\n\nTHE DAY\n{some(8)} The till was "
            f"short by {short}{as_on}. {some(3)}\n\nTILL\nFloat at opening: 200.00\n"
            f"Cash: {v['cash']}\nCards: {v['cards']}\nVouchers redeemed: {v['vouchers']}\n"
            f"Total: {total:,.2f}\nTips, not included: {tips}\n\nBANKING\nThe cash is in bag "
            f"{v['bag']}, which lies in the safe. The carrier picked up bag "
            f"SB{digits(c, 7)} at noon. {some(1)}\n"
        )
    like = f" It was nearly as busy as on {earlier}." if earlier else ""
    return (
        f"Cash-up, {key}\n\nWe had {lunch} covers at lunch and {dinner} in the evening.{like} "
        f"{some(7)}\n\n{_colleague(c)} ran the floor and {_colleague(c)} the bar. {some(4)}\n\n"
        f"Money: the cards came to {v['cards']} and the cash, without the float of 200.00, to "
        f"{v['cash']}. Gift vouchers for {v['vouchers']} were handed in, and new ones sold for "
        f"{money(c, 20, 400)}. That makes {total:,.2f} altogether. Tips of {tips} were shared "
        f"out. {some(2)}\n\nThe cash went into bank bag {v['bag']}; bag SB{digits(c, 7)} was torn "
        f"and thrown away.\n"
    )


def _purchase(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _BUYING)
    net = _sum(v["net"])
    first, second = (round(net * c.randrange(15, 45) / 100, 2) for _ in range(2))
    lines = "\n".join(
        f"{n}  {c.randrange(2, 60) * 5} x {goods}  {price:,.2f}"
        for n, (goods, price) in enumerate(
            zip(c.choice(_SUPPLIES), (first, second, net - first - second), strict=True), 1
        )
    )
    due = datetime.strptime(v["delivery"], "%d %B %Y, %H:%M")
    sent = due - timedelta(days=7 * c.randrange(2, 9))
    other = _related(1, key, c, lambda each: 0 < int(key) - int(each) < 20_000)
    buyer, seller = _colleague(c), _author(c)
    ours = f"{buyer} <{buyer.lower().replace(' ', '.')}@harlow-fabrications.example>"
    theirs = f"{seller} <{seller.lower().replace(' ', '.')}@midland-supplies.example>"
    head = (
        f"From: {{0}}\nTo: {{1}}\nSubject: {{2}}\nDate: {sent:%a, %d %b %Y} "
        f"{c.randrange(8, 18):02}:{c.randrange(60):02}:00 +0000\nMessage-ID: <{digits(c, 9)}"
        f"@mail.example>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
    )
    if c.random() < 0.5:
        replaced = f"This order replaces our order {other}.\n" if other else ""
        return head.format(ours, theirs, f"Purchase order {key}") + (
            f"Dear {seller},\n\nplease supply the goods below. {some(5)}\n\n"
            f"Purchase order: {key}\nFramework contract: {v['contract']}\n"
            f"Your quotation: {v['quotation']}\n{replaced}\n{lines}\n\n{some(3)}\n\n"
            f"Net total: {v['net']} GBP\nVAT: {net * 0.2:,.2f} GBP\n"
            f"To be paid: {net * 1.2:,.2f} GBP\n\nDelivery: {v['delivery']}, gate "
            f"{c.randrange(1, 5)}\n\n{some(2)}\n\nKind regards\n{buyer}\nPurchasing\n"
        )
    as_well = f" We are adding what was missing from order {other}." if other else ""
    return head.format(theirs, ours, f"Confirmation of your order no. {key}") + (
        f"Dear {buyer},\n\nthank you for your order no. {key}, which we are glad to accept. It "
        f"follows our quotation {v['quotation']}; quotation Q-{digits(c, 5)} has lapsed."
        f"{as_well} {some(4)}\n\n{lines}\n\nOrder no. {key} comes to {v['net']} net and "
        f"{net * 1.2:,.2f} with VAT, at the prices of contract {v['contract']}. {some(4)}\n\n"
        f"The lorry will be with you on {v['delivery']}. The goods leave our warehouse on the day "
        f"before. {some(1)}\n\nYours sincerely\n{seller}\nSales office\n"
    )


def _certificate(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _MEASURED)
    _, field, year = key.split("/")
    unit, instruments = _FIELDS[field]
    done = _day(c, 2000 + int(year), 2001 + int(year))
    before = _related(
        2, key, c, lambda each: each[5:7] == field and 1 <= int(year) - int(each[8:]) <= 3
    )
    deviations = {20: v["low"], 50: v["middle"], 100: v["full"]}
    if c.random() < 0.5:
        previous = f"Previous certificate: {before}\n" if before else ""
        rows = "\n".join(
            f"{f'{point} % of range':<18}{found:>10}{c.randrange(10, 90) / 10_000:>13.4f}"
            for point, found in deviations.items()
        )
        return (
            f"TREWITT CALIBRATION LABORATORY\nCalibration certificate {key}\n\n"
            f"Customer: {c.choice(_CUSTOMERS)}\nInstrument: {c.choice(instruments)}\n"
            f"Serial number: {v['serial']}\nCalibrated on: {done:%d.%m.%Y}\n{previous}\n"
            f"METHOD\n{some(7)} The reference standard has the serial number {digits(c, 7)}.\n\n"
            f"CONDITIONS\n{some(4)}\n\nRESULTS\n{'Point':<18}{'Deviation':>10}"
            f"{'Uncertainty':>13}\n{rows}\nAll values in {unit}.\n\nThe instrument carries sticker "
            f"{v['sticker']}.\n\nSigned: {_colleague(c)}\nCertificate {key}, last page\n"
        )
    previous = f" It was last here for {before}." if before else ""
    return (
        f"Certificate no. {key}\n\nThe {c.choice(instruments)} with the serial number "
        f"{v['serial']} was sent in by {c.choice(_CUSTOMERS)} and calibrated on "
        f"{_long(done)} against our standard no. {digits(c, 7)}.{previous} {some(6)}\n\n"
        f"{some(4)}\n\nFindings for {key}\n\nAt 20 % of the range the deviation was "
        f"{v['low']} {unit}, at 50 % {v['middle']} {unit} and at full scale {v['full']} {unit}. "
        f"The repeatability was 0.{c.randrange(10, 90):04} {unit}. {some(2)}\n\nThe old sticker, "
        f"{digits(c, 6)}, was removed and sticker {v['sticker']} put on. {some(1)}\n\n"
        f"{_colleague(c)}, head of laboratory\n"
    )


def _pupil(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _PLAYED)
    first, family = key.split()
    sibling = _related(3, key, c, lambda each: each.split()[1] == family)
    instrument, term = c.choice(_INSTRUMENTS), c.choice(("Autumn", "Spring", "Summer"))
    year, mark = c.randrange(2015, 2025), c.randrange(100, 146)
    if c.random() < 0.5:
        also = f"<p>Lessons can be moved next to those of {sibling}.</p>\n" if sibling else ""
        return html(
            f"Report: {key}",
            f"<p>{instrument.capitalize()}, {term} term {year}. Teacher: {_colleague(c)}.</p>\n"
            f"<h2>Progress</h2>\n<p>{some(7)}</p>\n<h2>Exam</h2>\n<p>{first} got {mark} of 150 "
            f"marks. {some(3)}</p>\n{also}<h2>For the family</h2>\n<table>\n"
            f"<tr><td>Lesson</td><td>{v['lesson']}</td></tr>\n"
            f"<tr><td>Orchestra</td><td>{_weekly(c)}</td></tr>\n"
            f"<tr><td>Hire agreement</td><td>{v['hire']}</td></tr>\n"
            f"<tr><td>Insurance policy</td><td>IP-{digits(c, 5)}</td></tr>\n"
            f"<tr><td>Candidate number for the exam</td><td>{v['candidate']}</td></tr>\n"
            f"<tr><td>Fees paid</td><td>£{money(c, 150, 900)}</td></tr>\n"
            f"<tr><td>Fees outstanding</td><td>£{v['outstanding']}</td></tr>\n</table>",
        )
    also = f" The discount for {sibling} has been taken off." if sibling else ""
    return html(
        f"{key} – {term.lower()} term {year}",
        f"<p>{_colleague(c)} teaches {first} the {instrument}. {some(5)}</p>\n<p>{some(4)} The "
        f"last exam brought {mark} marks out of 150.</p>\n<h2>Next term</h2>\n<ul>\n"
        f"<li>Wind and strings together: {_weekly(c)}</li>\n<li>Single lesson: "
        f"{v['lesson']}</li>\n<li>Exam: {first} is entered as candidate {v['candidate']} at centre "
        f"{digits(c, 6)}</li>\n</ul>\n<h2>Office</h2>\n<p>The {instrument} is on loan under hire "
        f"agreement {v['hire']}; the earlier agreement H-{digits(c, 5)} has ended. Of this term's "
        f"fees, £{money(c, 150, 900)} have been paid and £{v['outstanding']} are still "
        f"outstanding.{also} {some(1)}</p>",
    )


def _title(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _BLURB)
    hero, pages = key.split("’")[0], 16 * c.randrange(12, 32)
    author = _author(random.Random(hero))
    jacket = datetime.strptime(v["published"], "%d %B %Y") - timedelta(weeks=c.randrange(8, 30))
    series = _related(4, key, c, lambda each: each.startswith(f"{hero}’"))
    bindings = {
        "Hardback": (v["hardback"], c.randrange(16, 25)),
        "Paperback": (v["paperback"], c.randrange(8, 13)),
        "E-book": (v["e-book"], c.randrange(3, 8)),
    }
    if c.random() < 0.5:
        rows = "\n".join(
            f"<tr><td>{name}</td><td>{number}</td><td>£{price}.99</td></tr>"
            for name, (number, price) in bindings.items()
        )
        after = f"<p>By the author of <em>{series}</em>.</p>\n" if series else ""
        return html(
            key,
            f"<p>A novel by {author}. {pages} pages. Editor: {_colleague(c)}.</p>\n{after}"
            f"<p>{some(7)}</p>\n<h2>Marketing</h2>\n<p>{some(4)}</p>\n<h2>Ordering</h2>\n"
            f"<table>\n<tr><th>Binding</th><th>ISBN</th><th>Price</th></tr>\n{rows}\n</table>\n"
            f"<p>Publication: {v['published']}. Reviews not before then, please. First print run: "
            f"{c.randrange(8, 60) * 250:,} copies.</p>",
        )
    after = f" It continues the story of <em>{series}</em>." if series else ""
    items = "\n".join(
        f"<li>{name}, £{price}.99: ISBN {number}</li>" for name, (number, price) in bindings.items()
    )
    return html(
        f"Title sheet: {key}",
        f"<p>{author}</p>\n<p>{some(6)}{after}</p>\n<p>Published on {v['published']}; the jacket "
        f"is shown to the trade on {_long(jacket)}. {some(3)}</p>\n"
        f"<h2>Editions of {key}</h2>\n<ul>\n{items}\n</ul>\n<h2>Sales points</h2>\n<p>{some(3)} "
        f"Questions go to {_colleague(c)}.</p>",
    )


def _manual(key: str, v: dict[str, str], c: random.Random) -> str:
    some = talk(c, _REVISED)
    model, edition = key.removesuffix(" edition").split(" user manual, ")
    other = _related(5, key, c, lambda each: each.startswith(f"{model} user"))
    older = bool(other) and other < key
    known = v | {"Dutch": _manual_order(c)}
    languages = {name: known[name] for name in ("English", "Dutch", "French", "German")}
    pages, menu = 4 * c.randrange(8, 20), digits(c, 5)
    if c.random() < 0.5:
        rows = "\n".join(f"| {name} | {number} |" for name, number in languages.items())
        link = f"{'Replaces' if older else 'Replaced by'}: {other}\n" if other else ""
        return (
            f"# {key}\n\nEditor: {_colleague(c)}\nExtent: {pages} pages\n{link}\n## What is new\n\n"
            f"{some(9)}\n\n## Order numbers of the {edition} edition\n\n"
            f"| Language | Order number |\n|---|---|\n{rows}\n\n## Codes printed in the {edition} "
            f"edition\n\nThe child lock of the {model} is released with {menu}, the installer menu "
            f"with {v['installer']}. {some(3)}\n"
        )
    state = "is out of print" if older else "is newer"
    link = f" Do not mix it up with the {other}, which {state}." if other else ""
    items = "\n".join(f"- {name}: {number}" for name, number in languages.items())
    return (
        f"# Release of a manual\n\n{key}\n\n## Changes\n\n{some(8)}{link}\n\n## Content\n\n"
        f"{pages} pages, edited by {_colleague(c)}. On the {model} the installer menu opens with "
        f"code {v['installer']} and the dealer menu with code {menu}, as this edition says on "
        f"page {c.randrange(5, 30)}. {some(3)}\n\n## To order the {model} manual, {edition} "
        f"edition\n\n{items}\n\n{some(1)}\n"
    )


EIGHTH = (
    Template(
        "daily takings",
        "date",
        lambda c: (str(c.randrange(1, 29)), c.choice(_MONTHS), str(c.randrange(2011, 2025))),
        _dated,
        lambda c: {
            "cash": money(c, 300, 2_500),
            "cards": money(c, 1_000, 7_000),
            "vouchers": money(c, 20, 400),
            "bag": f"SB{digits(c, 7)}",
        },
        filed("takings", "txt"),
        _takings,
        {
            "cash": ("How much cash did we take on {0} {1} {2}?", "cash takings {key}"),
            "cards": ("What did we take by card on {1} {0}, {2}?", "card takings {0} {1:.3} {2}"),
            "vouchers": ("For how much were vouchers redeemed on {0} {1} {2}?", "vouchers {key}"),
            "bag": ("Which bag did the cash of {key} go into?", "bank bag number {1:.3} {0} {2}"),
        },
        distinct=True,
    ),
    Template(
        "purchase order",
        "number",
        lambda c: (str(c.randrange(180_000, 420_000)),),
        lambda key: key[0],
        lambda c: {
            "net": money(c, 400, 9_000),
            "delivery": (
                f"{_long(_day(c, 2014, 2025))}, {c.randrange(7, 16)}:{c.randrange(0, 60, 15):02}"
            ),
            "quotation": f"Q-{digits(c, 5)}",
            "contract": f"FC {digits(c, 3)}/{digits(c, 3)}",
        },
        filed("orders", "eml"),
        _purchase,
        {
            "net": ("What does PO {key} come to before VAT?", "net total order {key}"),
            "delivery": ("When will order no. {key} be delivered?", "delivery slot PO {key}"),
            "quotation": ("Which quotation is purchase order {key} based on?", "quote for PO{key}"),
            "contract": ("Under which framework contract did we place order #{key}?",),
        },
        distinct=True,
    ),
    Template(
        "calibration certificate",
        "part",
        lambda c: (f"{c.randrange(1, 2_000):04}", c.choice([*_FIELDS]), str(c.randrange(12, 25))),
        "/".join,
        lambda c: {
            "serial": digits(c, 7),
            "low": _deviation(c),
            "middle": _deviation(c),
            "full": _deviation(c),
            "sticker": digits(c, 6),
        },
        lambda key, _: f"calibration/{''.join(key)}.txt",
        _certificate,
        {
            "serial": ("What instrument serial number is on certificate {0}-{1}-{2}?",),
            "low": ("What deviation does certificate {0}{1}{2} give at 20 % of the range?",),
            "middle": ("How far off was it at 50 % in cert {key}?", "50 % deviation {0} {1} {2}"),
            "full": ("What was the deviation at full range (100 %) in {0}-{1}-{2}?",),
            "sticker": ("Which sticker belongs to certificate {key}?", "sticker no. {0}{1}{2}"),
        },
        distinct=True,
    ),
    Template(
        "pupil report",
        "name",
        lambda c: (c.choice(_PUPILS), c.choice(_FAMILIES)),
        " ".join,
        lambda c: {
            "lesson": _weekly(c),
            "hire": f"H-{digits(c, 5)}",
            "candidate": digits(c, 7),
            "outstanding": money(c, 20, 600),
        },
        filed("pupils", "html"),
        _pupil,
        {
            "lesson": ("When and where is {key}'s lesson?", "lesson time and room {1}, {0}"),
            "hire": ("What's the number of {key}'s hire agreement?", "hire agreement {0:.1}. {1}"),
            "candidate": ("What is {0:.1}. {1}'s candidate number?", "candidate number {1}, {0}"),
            "outstanding": ("How much does {key} still owe us in fees?", "fees outstanding {key}"),
        },
        distinct=True,
    ),
    Template(
        "title sheet",
        "mixed",
        lambda c: (c.choice(_HEROES), c.choice(_THINGS)),
        lambda key: f"The {key[0]}’s {key[1]}",
        lambda c: {
            "hardback": _isbn(c),
            "paperback": _isbn(c),
            "e-book": _isbn(c),
            "published": _long(_day(c, 2012, 2026)),
        },
        filed("titles", "html"),
        _title,
        {
            "hardback": ("What is the ISBN of The {0}'s {1} in hardback?", "hardback ISBN {key}"),
            "paperback": ("Which ISBN does {key} have in paperback?", "{0}'s {1} paperback ISBN"),
            "e-book": ("What's the e-book ISBN for \"The {0}'s {1}\"?",),
            "published": ("When is The {0}'s {1} published?", "publication date {0}'s {1}"),
        },
        distinct=True,
    ),
    Template(
        "manual edition",
        "version",
        lambda c: (c.choice(_STOVES), c.choice(_SIZES), c.choice(_EDITIONS)),
        lambda key: f"{key[0]} {key[1]} user manual, {key[2]} edition",
        lambda c: {
            "English": _manual_order(c),
            "French": _manual_order(c),
            "German": _manual_order(c),
            "installer": digits(c, 5),
        },
        lambda key, _: f"manuals/{key[0].lower()}-{key[1]}-ed{key[2][:1]}.md",
        _manual,
        {
            "English": ("What is the order number of the English {key}?",),
            "French": (
                "What's the order number of the {2} edition of the {0} {1} manual in French?",
                "French {0} {1} manual {2} ed. order number",
            ),
            "German": ("Order no. of the German manual for the {0} {1}, edition {2:.1}?",),
            "installer": (
                "Which code opens the installer menu according to the {0} {1} manual, {2} edition?",
                "installer code {0} {1} edition {2:.1}",
            ),
        },
        distinct=True,
    ),
)
