"""Six more kinds of look-alikes, written before the rules were changed for what
the kept set showed, by somebody who had not read the rules, and measured once, after these had
been changed.

`lookalikes_kept` was looked at and rules were tuned on it. Here the documents are of other types,
and each is laid out in one of three ways: orders, patients' records, diaries of a building site,
security advisories, cable data and course outlines. Most name others of their kind. Keys stand in
the form of whoever wrote the page or asks: "PO-140317" or 140317, "Okoye, Grace" or "Grace Okoye",
"2019-05-14" or "May 14th, 2019", "v2.11.0" or "2.11.0". A course outline
is named by the code of the course and the term; others have the same code or the same term.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lookalikes_data import Key, Template, draw_day, draw_part, draw_version, serial, words

__all__ = ["FOURTH"]

_FIRST = words("""
    Abel Adele Akira Alina Amos Annika Arthur Astrid Bela Bianca Caleb Camille Carlos Cosima Cyril
    Dalia Dennis Dorothea Edgar Ella Enzo Erika Farah Finn Gabriel Gisela Grace Hassan Helena Henri
    Ida Igor Imogen Jana Jasper Joana Kamil Kerstin Lars Lena Louis Luisa Marek Margot Mateo Mira
    Nathan Nora Oliver Paula Peer Rania Robin Ruth Samuel Silke Stella Tariq Thea Tobias Valerie
    Vincent Wilma Yannick Zofia
""")
_LAST = words("""
    Adler Albrecht Amato Bakker Becker Bergström Bloch Bouchard Carver Conti Cooper D'Souza Daly
    Eriksen Esposito Faber Feldmann Fraser Galvin Gomez Greco Haddad Hartley Hoffmann Ibarra Jacobs
    Jung Kaplan Kessler Khan Klein Larsen Levy Lombardi Maier Mbeki Mendes Molnar Nowak Nyberg Okoye
    Oduya Parker Patel Peeters Pryce Ritter Rosen Sato Saunders Silva Singh Stone Szabo Toth Turner
    Vasquez Vidal Wagner Walsh Wood Yamada Ziegler Zeller
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")
_FIRMS = words("Brandl Cortina Dexion Ferrolan Gantrix Holmgren Ipsen Kolbus Lorch Mettis Norbar")
_GOODS = (
    "copier paper",
    "hinges, brass",
    "safety gloves",
    "hydraulic oil",
    "toner, black",
    "pallet wrap",
    "drill bits",
    "cleaning rags",
    "hex bolts M8",
    "work lamps",
)

_BUYING = (
    "Deliveries are taken in at gate 3 between seven and two.",
    "Please state our order number on all papers.",
    "Partial deliveries are accepted after a call.",
    "Prices are fixed until the goods have arrived.",
    "Returnable pallets are exchanged one for one.",
    "Invoices go to the accounts office and not to the store.",
    "The general terms of purchase apply.",
    "Goods without a packing slip are sent back.",
)
_WARD = (
    "Blood pressure was stable throughout the stay.",
    "The wound has healed without irritation.",
    "Sleep was poor in the first two nights.",
    "No allergies are known.",
    "Physiotherapy should go on at home.",
    "The laboratory values were within the usual range.",
    "Walking with two sticks is possible over short distances.",
    "The family was told about the further course.",
    "A light diet was well tolerated.",
)
_SITE = (
    "Concrete was poured for the stairs of the second floor.",
    "The crane stood still for an hour because of wind.",
    "Scaffolding on the yard side was taken down.",
    "Plasterers began with the stairwell.",
    "Two skips were emptied.",
    "The architect asked for samples of the floor tiles.",
    "Formwork for the ceiling was delivered in the wrong size.",
    "The electricians laid empty conduits in the basement.",
    "Neighbours complained about dust.",
    "Visitors were shown around by the site office.",
)
_RISK = (
    "An attacker on the same network can read session cookies.",
    "Crafted archives may write outside the target folder.",
    "The flaw was reported by a customer.",
    "Installations behind a reverse proxy are affected as well.",
    "There is no sign that it has been exploited.",
    "As a stopgap, switch off remote preview.",
    "Passwords need not be changed.",
    "Cloud customers have been moved already.",
)
_CABLE = (
    "Flame-retardant and free of halogens.",
    "Cores numbered, protective earth green and yellow.",
    "For fixed laying and occasional bending.",
    "Resistant to oil and coolants.",
    "Tinned copper braid, coverage 85 percent.",
    "Sold by the metre or on drums.",
    "Do not lay outdoors without a conduit.",
    "Tested according to the current standard.",
)
_STUDY = (
    "Attendance is compulsory in the first week.",
    "Slides are put online after each session.",
    "Pairs hand in four exercises.",
    "There is a reading list in the library.",
    "Guests may listen if there are seats.",
    "The exam is written without notes.",
    "Credits count towards the minor.",
    "A tutorial is offered on Thursdays.",
)


def _some(chance: random.Random, among: Sequence[str], count: int) -> str:
    return " ".join(chance.sample(among, count))


def _name(chance: random.Random) -> Key:
    return chance.choice(_FIRST), chance.choice(_LAST)


def _person(chance: random.Random) -> str:
    return " ".join(_name(chance))


def _date(chance: random.Random) -> str:
    return " ".join(draw_day(chance))


def _iso(day: str) -> str:
    number, month, year = day.split()
    return f"{year}-{_MONTHS.index(month) + 1:02}-{int(number):02}"


def _money(chance: random.Random) -> str:
    return f"{chance.randrange(1, 60)},{chance.randrange(0, 1000):03}.{chance.randrange(0, 100):02}"


def _code(chance: random.Random) -> str:
    return f"{chance.choice('CEFHLNSWX')}{chance.choice('ABD')}{chance.randrange(10_000, 100_000)}"


def _order(key: str, v: dict[str, str], c: random.Random) -> str:
    """Orders before it are named."""
    other, way = c.randrange(120_000, 160_000), c.randrange(3)
    lines = "\n".join(
        f"{n}. {good}, {c.randrange(2, 90)} units at {c.randrange(3, 80)}.{c.randrange(10, 100)}"
        for n, good in enumerate(c.sample(_GOODS, 4), 1)
    )
    if way == 0:
        return (
            f"PURCHASE ORDER PO-{key}\n\nSupplier: {c.choice(_FIRMS)} Ltd\nDate: {_date(c)}\n"
            f"Buyer: {v['buyer']}\nDelivery by: {v['delivery']}\n\n{lines}\n\n"
            f"{_some(c, _BUYING, 3)}\n\nSum without tax: {v['sum']} EUR\n\n"
            f"This order replaces PO-{other}, which is void.\n"
        )
    if way == 1:
        return (
            f"Dear supplier,\n\nfollowing your offer we order under our number {key}:\n\n"
            f"{lines}\n\n{_some(c, _BUYING, 4)}\n\nWe expect the goods on {v['delivery']}, "
            f"together with what is still open from order {other}. "
            f"The whole comes to {v['sum']} euros net.\n\n"
            f"Yours faithfully\n{v['buyer']}, purchasing\n"
        )
    return (
        f"# Order {key}\n\n| Field | Entry |\n|---|---|\n| Vendor | {c.choice(_FIRMS)} |\n"
        f"| Ordered by | {v['buyer']} |\n| To arrive | {v['delivery']} |\n"
        f"| Net total | {v['sum']} EUR |\n| See also | order {other} |\n\n## Items\n\n{lines}\n\n"
        f"## Terms\n\n{_some(c, _BUYING, 3)}\n"
    )


def _record(key: str, v: dict[str, str], c: random.Random) -> str:
    """Relatives and doctors are people like the patients."""
    first, last = key.rsplit(" ", 1)
    way = c.randrange(3)
    if way == 0:
        return (
            f"Discharge letter\n\nPatient: {last}, {first}\nBorn: {_date(c)}\n"
            f"Ward: {v['ward']}\nNext of kin: {_person(c)}\n\n{_some(c, _WARD, 4)}\n\n"
            f"Medication on discharge: {v['drug']}.\n\n{_some(c, _WARD, 2)}\n\n"
            f"Signed: Dr {v['doctor']}\n"
        )
    if way == 1:
        return (
            f"Dear Dr {_person(c)},\n\nthank you for sending us {key}, who was with us on ward "
            f"{v['ward']} until {_date(c)}. {_some(c, _WARD, 4)}\n\n{_some(c, _WARD, 2)} We "
            f"recommend {v['drug']} for the time being.\n\nWith kind regards\n"
            f"Dr {v['doctor']}\n"
        )
    return (
        f"# {last}, {first}\n\n## Stay\n\nWard {v['ward']}, treated by Dr {v['doctor']}. "
        f"{_some(c, _WARD, 3)}\n\n## At home\n\n- takes {v['drug']}\n- is looked after by "
        f"{_person(c)}\n- sees the district nurse\n\n{_some(c, _WARD, 2)}\n"
    )


def _diary(key: str, v: dict[str, str], c: random.Random) -> str:
    """Inspections and deliveries have other days."""
    way = c.randrange(3)
    if way == 0:
        return (
            f"Site diary\n\nDate: {_iso(key)}\nWeather: {c.choice(('dry', 'rain', 'fog'))}\n"
            f"Workers on site: {v['workers']}\nForeman: {v['foreman']}\n\n{_some(c, _SITE, 4)}\n\n"
            f"Delivered: {v['delivered']}.\n\nFire inspection announced for {_iso(_date(c))}.\n"
        )
    if way == 1:
        return (
            f"# {key}\n\n{v['foreman']} had the site with {v['workers']} workers. "
            f"{_some(c, _SITE, 4)}\n\n## Material\n\n{v['delivered']} came in the morning. What "
            f"was ordered on {_date(c)} has still not come.\n\n## Remarks\n\n{_some(c, _SITE, 2)}\n"
        )
    return (
        f"Daily report of {key}, block {c.choice('ABC')}\n\n{_some(c, _SITE, 5)}\n\n"
        f"Head count {v['workers']}. Defects noted on {_date(c)} were put right. The lorry brought "
        f"{v['delivered']}.\n\nFor the record: {v['foreman']}, foreman\n"
    )


def _advisory(key: str, v: dict[str, str], c: random.Random) -> str:
    """The version before it is affected."""
    product, number = key.rsplit(" ", 1)
    older = f"{c.randrange(1, 10)}.{c.randrange(0, 30)}.{c.randrange(0, 40)}"
    way = c.randrange(3)
    if way == 0:
        return (
            f"# Security advisory for {product}\n\nFixed in: {number}\nAffected: {older} and "
            f"before\nSeverity: {v['score']}\n\n{_some(c, _RISK, 4)}\n\n## Credit\n\nFound by "
            f"{v['finder']}.\n\n## Hotfix\n\nWho cannot update takes hotfix {v['hotfix']}.\n"
        )
    if way == 1:
        return (
            f"{product} v{number}: important update\n\n{_some(c, _RISK, 4)}\n\nThe rating is "
            f"{v['score']} out of ten. We thank {v['finder']} for the report. If you run {product} "
            f"v{older}, update at once.\n\n{_some(c, _RISK, 2)} The number of the hotfix is "
            f"{v['hotfix']}.\n"
        )
    return (
        f"To all administrators\n\nVersion {number} of {product} closes a hole that version "
        f"{older} still has. {_some(c, _RISK, 3)}\n\n- Score: {v['score']}\n"
        f"- Reported by: {v['finder']}\n- Hotfix: {v['hotfix']}\n\n{_some(c, _RISK, 3)}\n"
    )


def _line(key: str, v: dict[str, str], c: random.Random) -> str:
    """Its like in another size has a number like its own."""
    other, way = draw_part("AAA-0000-00")(c)[0], c.randrange(3)
    if way == 0:
        return (
            f"{key}\n\nControl cable, screened\n\nOuter diameter: {v['diameter']} mm\n"
            f"Smallest bend: {v['bend']} mm\nMating plug: {v['plug']}\nThicker type: {other}\n\n"
            f"{_some(c, _CABLE, 4)}\n"
        )
    if way == 1:
        return (
            f"# Cable data\n\n## {key}\n\n{_some(c, _CABLE, 3)} The sheath measures "
            f"{v['diameter']} mm across; do not bend it below {v['bend']} mm.\n\n## Accessories\n\n"
            f"Plug {v['plug']} fits. It also fits {other}.\n\n{_some(c, _CABLE, 2)}\n"
        )
    return (
        f"Product change notice\n\nFrom next month {other} is no longer made; {key} takes its "
        f"place. {_some(c, _CABLE, 3)}\n\nThe new cable is {v['diameter']} mm thick and may be "
        f"bent down to {v['bend']} mm. Order plug {v['plug']} with it. {_some(c, _CABLE, 2)}\n"
    )


def _course(key: str, v: dict[str, str], c: random.Random) -> str:
    """It builds on another course of another term."""
    code, term = key.split(", ")
    needed = ", ".join(_term(c))
    way = c.randrange(3)
    if way == 0:
        return (
            f"# {code}\n\nTerm: {term}\nLecturer: {v['lecturer']}\nRoom: {v['room']}\n"
            f"Needed before: {needed}\n\n{_some(c, _STUDY, 4)}\n\nPlaces: {v['places']}\n"
        )
    if way == 1:
        return (
            f"Course outline, {term}\n\n{v['lecturer']} teaches {code} in room {v['room']}. "
            f"{_some(c, _STUDY, 4)}\n\nWhoever passed {needed} can take part. "
            f"{_some(c, _STUDY, 2)} At most {v['places']} students are admitted.\n"
        )
    return (
        f"# {term}: {code}\n\n## About\n\n{_some(c, _STUDY, 4)}\n\n## Before you come\n\nYou have "
        f"passed {needed}.\n\n## Where and who\n\nRoom {v['room']}, {v['lecturer']}, limited to "
        f"{v['places']} students.\n"
    )


def _term(chance: random.Random) -> Key:
    subject = chance.choice(("BIO", "CHE", "ECO", "HIS", "LAW", "MAT", "PHY"))
    season = chance.choice(("spring", "summer", "autumn"))
    return f"{subject} {chance.randrange(101, 180)}", f"{season} {chance.randrange(2005, 2025)}"


FOURTH = (
    Template(
        "purchase order",
        "number",
        lambda c: (str(c.randrange(120_000, 160_000)),),
        lambda key: key[0],
        lambda c: {"buyer": _person(c), "delivery": _date(c), "sum": _money(c)},
        serial("orders"),
        _order,
        {
            "buyer": ("Who placed order {key}?", "buyer of PO-{key}"),
            "delivery": (
                "When do the goods of purchase order {key} have to be here?",
                "By what day did we want PO {key} delivered?",
            ),
            "sum": ("How much is order no. {key} without tax?", "net total PO {key}"),
        },
    ),
    Template(
        "patient record",
        "name",
        _name,
        " ".join,
        lambda c: {
            "ward": f"{c.choice('ABCDEF')}{c.randrange(100, 1000)}",
            "drug": f"{c.choice(('aspirin', 'bisoprolol', 'ramipril', 'metformin'))} "
            f"{c.randrange(3, 999)} mg",
            "doctor": _person(c),
        },
        lambda _, place: f"patients/{place:05}.md",
        _record,
        {
            "ward": ("Which ward was {key} on?", "{1}, {0}: ward?"),
            "drug": ("What medicine does {key} take after the stay?", "medication {1} {0}"),
            "doctor": ("Which doctor treated {key}?", "Who signed the letter about {0} {1}?"),
        },
    ),
    Template(
        "site diary",
        "date",
        draw_day,
        " ".join,
        lambda c: {
            "workers": str(c.randrange(11, 400)),
            "foreman": _person(c),
            "delivered": f"{c.randrange(3, 999)} {c.choice(('bricks', 'tiles', 'beams', 'slabs'))}",
        },
        serial("diary"),
        _diary,
        {
            "workers": (
                "How many workers were on site on {key}?",
                "head count {1} {0}, {2}",
            ),
            "foreman": ("Who was foreman on {1} {0}, {2}?", "Who was the foreman on {key}?"),
            "delivered": (
                "What was delivered to the site on {key}?",
                "What came by lorry on the {0} of {1} {2}?",
            ),
        },
    ),
    Template(
        "security advisory",
        "version",
        draw_version(("Lumen Server", "Cartwright", "Pixelvault", "Mailyard", "Tern Gateway")),
        " ".join,
        lambda c: {
            "score": f"{c.randrange(1, 10)}.{c.randrange(0, 10)}",
            "finder": _person(c),
            "hotfix": f"HF{c.randrange(10_000, 100_000)}",
        },
        lambda _, place: f"advisories/{place:05}.md",
        _advisory,
        {
            "score": ("How severe is the hole fixed in {key}?", "severity {0} v{1}"),
            "finder": (
                "Who reported the flaw that version {1} of {0} fixes?",
                "Who found the problem fixed by {key}?",
            ),
            "hotfix": ("Which hotfix belongs to {0} {1}?", "hotfix {0} v{1}"),
        },
    ),
    Template(
        "cable data",
        "part",
        draw_part("AAA-0000-00"),
        lambda key: key[0],
        lambda c: {
            "diameter": f"{c.randrange(3, 30)}.{c.randrange(10, 100)}",
            "bend": str(c.randrange(101, 990)),
            "plug": _code(c),
        },
        serial("cables"),
        _line,
        {
            "diameter": ("How thick is cable {key}?", "outer diameter of {key} in mm"),
            "bend": ("How tightly may I bend {key}?", "bend radius {key}"),
            "plug": ("Which plug goes with the {key}?", "plug for {key}"),
        },
    ),
    Template(
        "course outline",
        "mixed",
        _term,
        ", ".join,
        lambda c: {
            "lecturer": _person(c),
            "room": f"{c.choice('GHKLR')}.{c.randrange(100, 900)}",
            "places": str(c.randrange(15, 400)),
        },
        lambda _, place: f"courses/{place:05}.md",
        _course,
        {
            "lecturer": (
                "Who teaches {0} in {1}?",
                "Who was the lecturer of {0} in the {1} term?",
            ),
            "room": ("Which room is {0} in, {1}?", "room {0} {1}"),
            "places": ("How many students can take {0} in {1}?",),
        },
    ),
)
