"""Six kinds of look-alikes, written by somebody who had not read the rules that tell them apart,
and measured once, after these had been changed. Rules have been tuned on them since.

They stand nearer to what a small firm has than `lookalikes_data.TEMPLATES`: each document is laid
out in one of several ways, and most of them also name others of their kind (the visit before, the
next meeting, the part that is replaced, the version to update from), so that a key alone does not
say whose document it is in. Questions are worded as colleagues ask, with the key in another form
here and there ("May 14, 2019" for "14 May 2019"). A ticket is named by its customer and a number
that other customers have as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lookalikes_data import Key, Template, draw_day, draw_part, draw_version, serial, words

__all__ = ["KEPT"]

_FIRST = words("""
    Agnes Albert Alma Bastian Beatriz Benno Brigitte Callum Cecilia Conrad Dagmar Daniela Darragh
    Eberhard Eileen Emre Esther Fabian Farida Florian Freya Gareth Gesine Gunnar Heidi Hilde Ines
    Isidor Jasmin Joachim Kaja Karim Leonie Liam Linnea Ludwig Magda Malte Meike Moritz Nadine
    Nina Niamh Orla Otto Pascal Philippa Quentin Rafael Renate Rhys Roswitha Sandra Sanjay Sibylle
    Stefan Svenja Tamara Theo Ursula Valentin Veronika Wanda Wendelin Xaver Yusuf Zara
""")
_LAST = words("""
    Achterberg Aldana Arslan Baumgartner Beaumont Bianchi Birkeland Bosman Brennan Cavalli Clemens
    Corrigan Dahl Delacroix Demir Doyle Eichhorn Engström Falkner Ferreira Fontaine Gallagher
    Gerlach Gottlieb Haas Halloran Hinteregger Hofstede Iversen Jankovic Jeppesen Kaminski Kerrigan
    Koch Kruger Lachance Lehmann Lindqvist Lorenz Madsen Marchetti McBride Moser Murphy Nakamura
    Neumann O'Leary Olsen Pellegrini Pohl Quinlan Rademacher Reuter Roth Sauer Schuster Seidel
    Sorensen Stadler Steiner Tanner Thiele Tierney Urban Van-Dijk Vogt Wallner Winkler Zapata
""")
_CUSTOMERS = (
    "Brunner Bakery",
    "Hotel Lindenhof",
    "Kessler Dental",
    "Parkside Clinic",
    "Alder Garage",
    "Weir Brewery",
    "St. Mary's School",
    "Corner Pharmacy",
    "Hillcrest Nursery",
    "Tolland Printing",
    "Marsh & Sons",
    "Nordic Optics",
    "Riverside Gym",
    "Fenwick Law",
    "Casa Verde",
    "Bright Laundry",
    "Halden Sawmill",
    "Pier 9 Fish",
    "Olmo Tiles",
    "Beacon Travel",
    "Grove Vets",
    "Castle Cinema",
    "Meridian Freight",
    "Summit Ski Hire",
    "Harrow Foods",
    "Quayside Hotel",
    "Lark Studio",
    "Ferris Roofing",
    "Orchard Cider",
    "Dunmore Library",
)

_VISIT = (
    "Filters changed and the strainer cleaned.",
    "Burner adjusted, flue gas within limits.",
    "Expansion vessel topped up with nitrogen.",
    "Customer asks for a quotation for a second pump.",
    "Access to the plant room was blocked by pallets at first.",
    "Leak at the safety valve, seat reground on the spot.",
    "Pump 2 is noisy; bearings should be watched.",
    "Log book signed by the caretaker.",
    "Old thermostat left with the customer.",
    "No parts from stock were used apart from gaskets.",
)
_HR = (
    "Your other terms of employment stay as they are.",
    "Please return the signed copy to the personnel office within two weeks.",
    "The works council has been informed.",
    "Overtime is settled as laid down in the house agreement.",
    "The probation period does not start anew.",
    "Your company pension continues without a break.",
    "We thank you for your work and look forward to the time ahead.",
    "Travel between sites is paid according to the travel policy.",
)
_TALK = (
    "The coffee machine is to be leased rather than bought.",
    "Complaints about the new delivery slots were discussed at length.",
    "The stand at the trade fair will be shared with a partner.",
    "Two apprentices start in the autumn.",
    "The roof of the warehouse leaks again; offers are being obtained.",
    "Sales reported a quiet quarter with a good order book.",
    "The printer contract runs out and will not be renewed.",
    "It was agreed to try shorter opening hours on Fridays.",
    "The safety walk found blocked exits in the store.",
)
_NEWS = (
    "Lists can be sorted by several columns.",
    "Exports no longer lose leading zeros.",
    "The start screen loads noticeably faster.",
    "Keyboard shortcuts are shown beside menu items.",
    "Cancelled orders are greyed out.",
    "Fixed: totals were rounded twice on printed receipts.",
    "Fixed: the calendar jumped back a week on Sundays.",
    "Dutch and Polish translations were completed.",
    "Log files are now kept for ninety days.",
)
_TRAIT = (
    "Suitable for water, glycol mixtures and mineral oil.",
    "Body of red brass, stem of stainless steel.",
    "Can be mounted in any position except upside down.",
    "Every unit is pressure-tested before dispatch.",
    "Use only with the original gasket.",
    "Special colours on request.",
    "Not approved for drinking water.",
    "Delivery includes two brackets and a template.",
)
_CALL = (
    "User was called back twice before somebody picked up.",
    "Remote session with the shop manager.",
    "Restarting did not help.",
    "The fault could be reproduced on the second till as well.",
    "Customer was advised to keep a spare.",
    "Visited on site the same afternoon.",
    "The warranty had run out, work is charged by the hour.",
    "Photographs are in the shared folder.",
)


def _some(chance: random.Random, among: Sequence[str], count: int) -> str:
    return " ".join(chance.sample(among, count))


def _name(chance: random.Random) -> Key:
    return chance.choice(_FIRST), chance.choice(_LAST)


# A small firm: the same colleagues come up again and again, and some have a letter of their own.
_COLLEAGUES = [" ".join(_name(random.Random(n))) for n in range(120)]


def _person(chance: random.Random) -> str:
    return chance.choice(_COLLEAGUES)


def _date(chance: random.Random) -> str:
    return " ".join(draw_day(chance))


def _money(chance: random.Random) -> str:
    return f"{chance.randrange(1, 90)},{chance.randrange(0, 1000):03}.{chance.randrange(0, 100):02}"


def _reference(chance: random.Random) -> str:
    return f"{chance.choice('BDGKMPRTV')}{chance.randrange(100_000, 1_000_000)}"


def _service(key: str, v: dict[str, str], c: random.Random) -> str:
    """The visit before has a number like its own."""
    before = c.randrange(20_000, 100_000)
    if c.random() < 0.5:
        return (
            f"SERVICE REPORT No. {key}\nFollow-up to report No. {before}\n\n"
            f"Customer: {c.choice(_CUSTOMERS)}\nBoiler serial number: {_reference(c)}\n"
            f"Technician: {v['technician']}\nHours on site: {c.randrange(1, 9)}.5\n\n"
            f"Work done\n{_some(c, _VISIT, 4)}\n\nReadings on leaving\n"
            f"System pressure {v['pressure']} bar, flow temperature {c.randrange(40, 80)} °C.\n\n"
            f"Next visit due: {v['next visit']}\n"
        )
    return (
        f"Heating service / report {key}\n\nOn {_date(c)} our colleague {v['technician']} was at "
        f"{c.choice(_CUSTOMERS)}. {_some(c, _VISIT, 3)} What was left open in report {before} "
        f"has been dealt with.\n\n{_some(c, _VISIT, 3)}\n\nWhen we left, the gauge stood at "
        f"{v['pressure']} bar. Please plan the next visit for {v['next visit']}.\n"
    )


def _letter(key: str, v: dict[str, str], c: random.Random) -> str:
    last = key.split()[-1]
    if c.random() < 0.5:
        return (
            f"Personnel office, {_date(c)}\n\n{key}\n{c.randrange(1, 200)} Mill Street\n\n"
            f"Change to your contract\n\nDear {c.choice(('Ms', 'Mr'))} {last},\n\nfrom "
            f"{v['start']} you will work in the team of {v['manager']}. Your monthly salary will "
            f"be {v['salary']} euros. {_some(c, _HR, 3)}\n\nKind regards\n{_person(c)}\n"
        )
    return (
        f"# Confirmation of employment\n\nThis is to confirm that {key} is employed with us.\n\n"
        f"{_some(c, _HR, 4)}\n\n## Terms\n\n- Start: {v['start']}\n- Reports to: {v['manager']}\n"
        f"- Gross pay per month: {v['salary']} euros\n- Weekly hours: {c.randrange(20, 41)}\n\n"
        f"{_some(c, _HR, 2)}\n"
    )


def _meeting(key: str, v: dict[str, str], c: random.Random) -> str:
    """The next meeting has a date as well."""
    if c.random() < 0.5:
        return (
            f"# Team meeting, {key}\n\nPresent: {_person(c)}, {_person(c)}, {_person(c)}\n"
            f"Minutes: {v['minute taker']}\n\n## 1. News\n\n{_some(c, _TALK, 3)}\n\n"
            f"## 2. Money\n\nThe spending on marketing is capped at {v['cap']} euros.\n\n"
            f"## 3. Any other business\n\n{_some(c, _TALK, 2)}\n\nNext meeting: {_date(c)}\n"
        )
    return (
        f"Minutes\n\nThe management met on {key}. {v['minute taker']} kept the minutes; "
        f"{_person(c)} sent apologies.\n\n{_some(c, _TALK, 4)}\n\nIt was resolved that no more "
        f"than {v['cap']} euros go into advertising. {_some(c, _TALK, 2)}\n\nThe management will "
        f"meet again on {_date(c)}.\n"
    )


def _update(key: str, v: dict[str, str], c: random.Random) -> str:
    """The version to update from is one of the same product."""
    product, number = key.rsplit(" ", 1)
    older = f"{c.randrange(1, 10)}.{c.randrange(0, 30)}.{c.randrange(0, 40)}"
    if c.random() < 0.5:
        news = "\n".join(f"- {line}" for line in c.sample(_NEWS, 4))
        return (
            f"# {key}\n\nYou can update directly from {older} or later.\n\n## New and fixed\n\n"
            f"{news}\n\n## Facts\n\nBuild {v['build']}. Supported until {v['end']}. "
            f"Needs {v['disk']} MB of disk space.\n"
        )
    return (
        f"Dear customers,\n\nwe have released {product} {number}. {_some(c, _NEWS, 3)}\n\n"
        f"{_some(c, _NEWS, 3)}\n\nBefore you install it, make sure that {v['disk']} MB are free "
        f"on the disk. Whoever still has {product} {older} needs the interim update first.\n\n"
        f"The build number is {v['build']}. We will maintain this version until {v['end']}.\n"
    )


def _valve(key: str, v: dict[str, str], c: random.Random) -> str:
    """What it replaces has a number of the same form."""
    older = draw_part("AA00-000/A")(c)[0]
    if c.random() < 0.5:
        return (
            f"# {key}\n\nControl valve. Replaces {older}.\n\n{_some(c, _TRAIT, 3)}\n\n"
            f"| Quantity | Value |\n|---|---|\n| Nominal flow | {v['flow']} m³/h |\n"
            f"| Connection | G {c.randrange(1, 4)} |\n| Weight | {v['weight']} kg |\n"
            f"| Seal kit | {v['seal kit']} |\n"
        )
    return (
        f"Technical data for type {key}\n\n{_some(c, _TRAIT, 4)}\n\nThe valve weighs "
        f"{v['weight']} kg and passes {v['flow']} cubic metres per hour at one bar. "
        f"{_some(c, _TRAIT, 2)}\n\nSpare parts: order seal kit {v['seal kit']}. It does not fit "
        f"{older}.\n"
    )


def _ticket(key: str, v: dict[str, str], c: random.Random) -> str:
    number, customer = key.split(", ")
    if c.random() < 0.5:
        return (
            f"Ticket: {number}\nCustomer: {customer}\nReceived: {_date(c)}\n"
            f"Agent: {v['agent']}\n\n{_some(c, _CALL, 3)}\n\nCause and remedy: "
            f"{v['device']} was faulty and has been exchanged. {_some(c, _CALL, 1)} Time charged: "
            f"{v['minutes']} minutes.\n"
        )
    return (
        f"# {customer} / {number}\n\n{_date(c)}: {_some(c, _CALL, 2)}\n\n{_date(c)}: "
        f"{_some(c, _CALL, 2)} We swapped the {v['device']}, and everything works again.\n\n"
        f"Closed by {v['agent']}, {v['minutes']} minutes on the clock.\n"
    )


KEPT = (
    Template(
        "service report",
        "number",
        lambda c: (str(c.randrange(20_000, 100_000)),),
        lambda key: key[0],
        lambda c: {
            "technician": _person(c),
            "pressure": f"{c.randrange(1, 4)}.{c.randrange(10, 100)}",
            "next visit": _date(c),
        },
        serial("service"),
        _service,
        {
            "technician": (
                "Who was the technician in service report {key}?",
                "service report {key} technician",
            ),
            "pressure": (
                "What was the system pressure according to report {key}?",
                "How many bar did the gauge show at the end of report no. {key}?",
            ),
            "next visit": ("When is the next visit due after report {key}?",),
        },
    ),
    Template(
        "contract letter",
        "name",
        _name,
        " ".join,
        lambda c: {"start": _date(c), "manager": _person(c), "salary": _money(c)},
        lambda _, place: f"personnel/{place:05}.md",
        _letter,
        {
            "start": ("From when is {key} employed on the new terms?",),
            "manager": ("Who does {key} report to?", "In whose team does {key} work?"),
            "salary": (
                "How much does {key} earn a month?",
                "monthly salary of {1}, {0}",
                "What is {key}'s salary?",
            ),
        },
    ),
    Template(
        "team meeting",
        "date",
        draw_day,
        " ".join,
        lambda c: {"minute taker": _person(c), "cap": _money(c)},
        serial("meetings"),
        _meeting,
        {
            "minute taker": (
                "Who took the minutes on {key}?",
                "Who kept the minutes of the meeting of {1} {0}, {2}?",
            ),
            "cap": (
                "What limit for marketing was set in the meeting on {key}?",
                "How much may be spent on advertising according to the minutes of {key}?",
            ),
        },
    ),
    Template(
        "customer update",
        "version",
        draw_version(("Kassa", "Depot Planner", "Roster", "Tillmate", "Archivo", "Fleetdesk")),
        " ".join,
        lambda c: {
            "build": str(c.randrange(100_000, 1_000_000)),
            "end": _date(c),
            "disk": str(c.randrange(1000, 9000)),
        },
        lambda _, place: f"updates/{place:05}.md",
        _update,
        {
            "build": ("Which build is {key}?", "build number of {0} v{1}"),
            "end": ("Until when is {key} supported?", "How long will you maintain {0} {1}?"),
            "disk": ("How much disk space does {key} need?",),
        },
    ),
    Template(
        "valve sheet",
        "part",
        draw_part("AA00-000/A"),
        lambda key: key[0],
        lambda c: {
            "flow": f"{c.randrange(1, 60)}.{c.randrange(1, 10)}",
            "weight": f"{c.randrange(1, 30)}.{c.randrange(10, 100)}",
            "seal kit": _reference(c),
        },
        serial("valves"),
        _valve,
        {
            "flow": ("What is the nominal flow of the {key}?", "{key} m³/h"),
            "weight": ("How heavy is valve {key}?", "What does a {key} weigh?"),
            "seal kit": ("Which seal kit do I need for {key}?", "seal kit {key}"),
        },
    ),
    Template(
        "help desk",
        "mixed",
        lambda c: (f"T-{c.randrange(100, 2000)}", c.choice(_CUSTOMERS)),
        ", ".join,
        lambda c: {
            "agent": _person(c),
            "device": f"{c.choice(('router', 'scanner', 'label printer', 'card reader'))} "
            f"{_reference(c)}",
            "minutes": str(c.randrange(100, 400)),
        },
        lambda _, place: f"helpdesk/{place:05}.md",
        _ticket,
        {
            "agent": ("Who dealt with ticket {0} from {1}?", "agent for {1}, {0}"),
            "device": (
                "Which device was exchanged in {1}'s ticket {0}?",
                "What was faulty at {1} (ticket {0})?",
            ),
            "minutes": ("How many minutes were charged for ticket {0} of {1}?",),
        },
    ),
)
