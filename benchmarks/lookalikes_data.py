"""Documents that look alike, each named by a number, a name, a date, a version or a part number.

`TEMPLATES` are genres in which one document differs from the next by its key and its values. Some
say their key in the title or the file's name, some only in their first lines, so that the passage
with the value does not hold it; some have headings with nothing below them. Rules were tuned on
these templates: first on every second one of each kind, in the order of the SHA-256 of their names
(`tuned_on`), then also on the others. What no rule was tuned on is in `lookalikes_kept`. A corpus
holds the same number of documents of each template of one set, besides `ORDINARY` pages.

A **named** question asks for a value of one document by its key; **absent** ones name a key that no
document has (a digit, a month or half of a name differs from one that is there); **ordinary** ones
ask what one page says, in other words. All of it is written here, by who writes the search: what
searches find here says how look-alikes are told apart and nothing about language.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ORDINARY",
    "TEMPLATES",
    "Corpus",
    "Key",
    "Page",
    "Question",
    "Status",
    "Template",
    "corpus",
    "draw_day",
    "draw_keys",
    "draw_part",
    "draw_version",
    "serial",
    "words",
]

Kind = Literal["number", "name", "date", "version", "part", "mixed"]
Status = Literal["named", "absent", "ordinary"]
Key = tuple[str, ...]


def words(text: str) -> list[str]:
    return text.split()


_FIRST = words("""
    Maria Anna Jonas Peter Lucia Tomas Elena Marco Ingrid Paul Nadia Victor Clara Hugo Amara Felix
    Irene Oskar Selma Dario Greta Milan Petra Ruben Sofia Anton Helga Bruno Carla Denis Edda Frank
    Gloria Henrik Iris Jakob Katrin Leo Mona Nils Olga Pavel Rosa Simon Tessa Ulrich Vera Walter
    Yara Zeno Aisha Boris Chiara David Emil Fiona Georg Hanna Ivan Julia
""")
_LAST = words("""
    Keller Novak Brandt Rossi Lindholm Okafor Petrov Sandoval Meyer Fischer Castillo Dubois Hansen
    Ivanov Jansen Kowalski Lambert Moreau Nilsson Ortega Pereira Quist Romano Schmidt Tanaka Ullman
    Varga Weber Yilmaz Zimmer Abbott Barnes Chandler Dawson Ellison Farrow Garrett Holloway Irving
    Jarvis Kendall Langley Mercer Norwood Oakley Prescott Ramsey Sutton Thorne Underhill Vance
    Whitaker Ashford Bellamy Crawford Draper Emerson Fletcher Granger Hadley
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")
_PLACES = ("north hall", "south wing", "river site", "old depot", "third floor", "east yard")
_REMARKS = (
    "The work was carried out as planned and without delay.",
    "All steps were recorded and signed by the person in charge.",
    "Nothing unusual was noted during the whole procedure.",
    "A second check was made by a colleague on the following day.",
    "Further questions may be sent to the office at any time.",
    "The results were within the limits that had been agreed.",
    "Materials were taken from stock and replaced within the week.",
    "The schedule was kept, although the weather was poor.",
    "Two minor remarks were made, and both have been settled.",
    "Copies were filed, and the originals returned to their owner.",
)


def _code(chance: random.Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    return "".join(chance.choices(letters, k=3)) + f"-{chance.randrange(1000, 10000)}"


def _amount(chance: random.Random) -> str:
    return f"{chance.randrange(100, 9000)}.{chance.randrange(10, 100)}"


def _phone(chance: random.Random) -> str:
    return f"555-{chance.randrange(1000, 10000)}"


def _prose(chance: random.Random, count: int) -> str:
    return " ".join(chance.sample(_REMARKS, count))


def _person(chance: random.Random) -> str:
    return f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"


@dataclass(frozen=True)
class Page:
    """``values``: what it says, by the name of the property."""

    path: str
    text: str
    values: dict[str, str]


@dataclass(frozen=True)
class Template:
    """``key`` draws one; ``text`` writes a document from a key, a place in the row of all, and
    values; ``asked`` are wordings for each property, with the key as ``{key}`` or its parts as
    ``{0}``, ``{1}``... ``distinct``: only values that no other page of the template has in the same
    place are asked for."""

    name: str
    kind: Kind
    key: Callable[[random.Random], Key]
    said: Callable[[Key], str]
    values: Callable[[random.Random], dict[str, str]]
    path: Callable[[Key, int], str]
    text: Callable[[str, dict[str, str], random.Random], str]
    asked: dict[str, tuple[str, ...]]
    distinct: bool = False

    @property
    def tuned_on(self) -> bool:
        like = (each.name for each in TEMPLATES if each.kind == self.kind)
        order = sorted(like, key=lambda name: hashlib.sha256(name.encode()).digest())
        return order.index(self.name) % 2 == 0

    def page(self, key: Key, place: int) -> Page:
        chance = random.Random(f"{self.name} {key}")
        values = self.values(chance)
        return Page(self.path(key, place), self.text(self.said(key), values, chance), values)


def _number(low: int, high: int) -> Callable[[random.Random], Key]:
    return lambda chance: (str(chance.randrange(low, high)),)


def _name(chance: random.Random) -> Key:
    return chance.choice(_FIRST), chance.choice(_LAST)


def draw_day(chance: random.Random) -> Key:
    return (
        str(chance.randrange(1, 29)),
        chance.choice(_MONTHS),
        str(chance.randrange(1988, 2025)),
    )


def draw_version(products: Sequence[str]) -> Callable[[random.Random], Key]:
    return lambda chance: (
        chance.choice(products),
        f"{chance.randrange(1, 10)}.{chance.randrange(0, 30)}.{chance.randrange(0, 40)}",
    )


def draw_part(shape: str) -> Callable[[random.Random], Key]:
    """``A`` stands for a letter, ``0`` for a digit."""

    def draw(chance: random.Random) -> Key:
        drawn = {"A": "ABCDEFGHKLMNPRSTUWXZ", "0": "0123456789"}
        return ("".join(chance.choice(drawn.get(sign, sign)) for sign in shape),)

    return draw


def _iso(key: Key) -> str:
    return f"{key[2]}-{_MONTHS.index(key[1]) + 1:02}-{int(key[0]):02}"


def _report(key: str, v: dict[str, str], chance: random.Random) -> str:
    parts = (
        f"## Part {n}\n\n### Findings\n\n{_prose(chance, 3)}\n\n### Measures\n\n{_prose(chance, 2)}"
        for n in (1, 2)
    )
    return (
        f"# Report {key}\n\n" + "\n\n".join(parts) + "\n\n## Part 3\n\n### Release\n\n"
        f"The release code of this report is {v['release code']}. It was issued by "
        f"{v['issuer']} after the final check.\n"
    )


def _invoice(key: str, v: dict[str, str], chance: random.Random) -> str:
    rows = "\n".join(
        f"{n}  Item {chance.randrange(100, 1000)}  {chance.randrange(1, 9)} pcs  {_amount(chance)}"
        for n in range(1, 9)
    )
    return (
        f"INVOICE\n\nInvoice number: {key}\nBilled to: {_person(chance)}\n\n{rows}\n\n"
        f"{_prose(chance, 5)}\n\n{_prose(chance, 4)}\n\nTotal due: {v['total']} EUR. Please pay to "
        f"account {v['account']} within thirty days.\n"
    )


def _ticket(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"# Ticket {key}\n\nOpened from the {chance.choice(_PLACES)}. {_prose(chance, 2)}\n\n"
        f"## Resolution\n\nThe fault was traced to module {v['faulty module']}, and "
        f"{v['technician']} closed the ticket. {_prose(chance, 1)}\n"
    )


def _case(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"District court\n\nFile reference {key}\n\nThe parties appeared before judge "
        f"{v['judge']}. {_prose(chance, 4)}\n\n{_prose(chance, 5)}\n\nDecision. The claim is "
        f"granted in the amount of {v['amount']} francs. Costs are shared.\n"
    )


def _staff(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"# {key}\n\nOffice: {chance.choice(_PLACES)}\nExtension: {v['extension']}\n"
        f"Badge: {v['badge']}\n\n{_prose(chance, 1)}\n"
    )


def _lease(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"LEASE\n\nBetween the housing cooperative and {key}, below called the tenant.\n\n"
        f"{_prose(chance, 5)}\n\n{_prose(chance, 5)}\n\nThe tenant pays a deposit of "
        f"{v['deposit']} crowns and gets the keys of flat {v['flat']}.\n"
    )


def _minutes(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"# Minutes of {key}\n\n## Attendance\n\nThe chair was {v['chair']}. "
        f"{_prose(chance, 1)}\n\n## Decisions\n\n### Budget\n\nThe board set the budget line "
        f"to {v['budget']} euros. {_prose(chance, 2)}\n"
    )


def _log(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"Station log, {key}\n\nObserver on duty: {v['observer']}. {_prose(chance, 2)}\n\n"
        f"Highest gust {v['gust']} knots, seen from the {chance.choice(_PLACES)}.\n"
    )


def _notes(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"# {key}\n\n## Changes\n\n{_prose(chance, 3)}\n\n## Download\n\nThe checksum of the "
        f"package is {v['checksum']}. The release manager was {v['release manager']}.\n"
    )


def _firmware(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"Firmware bulletin for {key}\n\n{_prose(chance, 4)}\n\nInstall with boot key "
        f"{v['boot key']}. The update needs {v['memory']} kilobytes of free memory.\n"
    )


def _sheet(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"# Data sheet {key}\n\n## General\n\n{_prose(chance, 2)}\n\n## Ratings\n\n"
        f"| Property | Value |\n|---|---|\n| Holding torque | {v['holding torque']} Nm |\n"
        f"| Drawing | {v['drawing']} |\n"
    )


def _spare(key: str, v: dict[str, str], chance: random.Random) -> str:
    return (
        f"Spare part {key}. Kept on shelf {v['shelf']} in the {chance.choice(_PLACES)}. "
        f"{_prose(chance, 1)} The unit price is {v['unit price']} dollars.\n"
    )


def serial(prefix: str) -> Callable[[Key, int], str]:
    """A file's name that does not say the key."""
    return lambda _, place: f"{prefix}/{place:06}.txt"


TEMPLATES = (
    Template(
        "annual report",
        "number",
        _number(10_000, 99_999),
        lambda key: key[0],
        lambda c: {"release code": _code(c), "issuer": _person(c)},
        lambda key, _: f"reports/report-{key[0]}.md",
        _report,
        {
            "release code": (
                "What is the release code of report {key}?",
                "release code report {key}",
            ),
            "issuer": ("Who issued report {key}?",),
        },
    ),
    Template(
        "invoice letter",
        "number",
        lambda c: (f"INV-{c.randrange(2015, 2025)}-{c.randrange(1, 99_999):05}",),
        lambda key: key[0],
        lambda c: {"total": _amount(c), "account": f"{c.randrange(10**7, 10**8)}"},
        serial("invoices"),
        _invoice,
        {
            "total": ("What is the total due of invoice {key}?", "total due {key}"),
            "account": ("To which account is invoice {key} paid?",),
        },
    ),
    Template(
        "support ticket",
        "number",
        _number(100_000, 999_999),
        lambda key: f"#{key[0]}",
        lambda c: {"faulty module": _code(c), "technician": _person(c)},
        lambda key, _: f"tickets/{key[0]}.md",
        _ticket,
        {
            "faulty module": (
                "Which module was the fault of ticket {key} traced to?",
                "faulty module in ticket {key}",
            ),
            "technician": ("Who closed ticket {key}?",),
        },
    ),
    Template(
        "court file",
        "number",
        lambda c: (f"{c.randrange(1990, 2025)}/{c.randrange(100, 9999)}",),
        lambda key: key[0],
        lambda c: {"judge": _person(c), "amount": _amount(c)},
        serial("court"),
        _case,
        {
            "judge": ("Who was the judge in file {key}?",),
            "amount": (
                "What amount was granted in file reference {key}?",
                "amount granted {key}",
            ),
        },
    ),
    Template(
        "staff card",
        "name",
        _name,
        " ".join,
        lambda c: {"extension": _phone(c), "badge": _code(c)},
        serial("staff"),
        _staff,
        {
            "extension": ("What is the extension of {key}?", "{key} extension"),
            "badge": ("Which badge does {key} have?",),
        },
    ),
    Template(
        "tenancy",
        "name",
        _name,
        " ".join,
        lambda c: {"deposit": _amount(c), "flat": f"{c.choice('ABCDEF')}{c.randrange(100, 999)}"},
        serial("leases"),
        _lease,
        {
            "deposit": ("What deposit does {key} pay?", "How much is the deposit of {key}?"),
            "flat": ("Which flat did {key} rent?",),
        },
    ),
    Template(
        "board minutes",
        "date",
        draw_day,
        " ".join,
        lambda c: {"chair": _person(c), "budget": _amount(c)},
        serial("minutes"),
        _minutes,
        {
            "chair": ("Who was the chair on {key}?",),
            "budget": (
                "To how much did the board set the budget line on {key}?",
                "budget line minutes of {key}",
            ),
        },
    ),
    Template(
        "weather log",
        "date",
        draw_day,
        _iso,
        lambda c: {"observer": _person(c), "gust": f"{c.randrange(20, 99)}.{c.randrange(1, 9)}"},
        serial("station"),
        _log,
        {
            "observer": ("Who was the observer on duty on {key}?",),
            "gust": ("How strong was the highest gust on {key}?", "highest gust {key}"),
        },
    ),
    Template(
        "release notes",
        "version",
        draw_version(("Helix", "Orbit", "Tandem", "Quarry", "Lantern", "Meadow")),
        " ".join,
        lambda c: {"checksum": f"{c.getrandbits(40):010x}", "release manager": _person(c)},
        lambda key, _: f"releases/{key[0].lower()}-v{key[1]}.md",
        _notes,
        {
            "checksum": ("What is the checksum of {key}?", "{key} checksum"),
            "release manager": ("Who was the release manager of {key}?",),
        },
    ),
    Template(
        "firmware bulletin",
        "version",
        draw_version(("pump controller", "valve controller", "gate opener", "heat meter")),
        " version ".join,
        lambda c: {"boot key": _code(c), "memory": str(c.randrange(100, 9000))},
        serial("firmware"),
        _firmware,
        {
            "boot key": ("Which boot key installs {key}?", "boot key {key}"),
            "memory": ("How much memory does the firmware of {key} need?",),
        },
    ),
    Template(
        "data sheet",
        "part",
        draw_part("AA-0000-A"),
        lambda key: key[0],
        lambda c: {
            "holding torque": f"{c.randrange(2, 90)}.{c.randrange(1, 9)}",
            "drawing": _code(c),
        },
        lambda key, _: f"sheets/{key[0].lower()}.md",
        _sheet,
        {
            "holding torque": ("What is the holding torque of {key}?", "holding torque {key}"),
            "drawing": ("Which drawing belongs to {key}?",),
        },
    ),
    Template(
        "spare part",
        "part",
        draw_part("0A-000.000"),
        lambda key: key[0],
        lambda c: {"shelf": f"{c.choice('ABCDEF')}{c.randrange(10, 99)}", "unit price": _amount(c)},
        serial("spares"),
        _spare,
        {
            "shelf": ("On which shelf is spare part {key}?",),
            "unit price": ("What does part {key} cost?", "unit price {key}"),
        },
    ),
)


# Pages that are unlike any other, and a question in other words than theirs.
ORDINARY = {
    "Annual leave carries over until the end of March; what is not taken by then lapses.": (
        "When do unused holidays expire?"
    ),
    "The fire doors close by themselves when the alarm sounds. Never wedge them open.": (
        "May I keep a fire door open?"
    ),
    "Visitors sign in at the front desk and wear a green sticker until they leave.": (
        "What do guests have to wear?"
    ),
    "Laptops are replaced every four years, or earlier if a repair costs more than half.": (
        "How often do I get a new computer?"
    ),
    "Passwords need fourteen characters. They are changed only after a suspected leak.": (
        "How long must a password be?"
    ),
    "The canteen serves lunch from half past eleven; the soup is always free of meat.": (
        "When can I eat at noon?"
    ),
    "Bicycles stand in the cellar, behind the boiler room, and not in the stairwell.": (
        "Where should I park my bike?"
    ),
    "Travel is booked through the agency. First class needs a note by the head of unit.": (
        "Who has to approve first class tickets?"
    ),
    "Printed drafts with personal data go into the grey bins, which are shredded weekly.": (
        "How are confidential papers thrown away?"
    ),
    "New colleagues get a mentor for their first half year, who is never their superior.": (
        "Who helps somebody who has just joined?"
    ),
    "In case of a power cut the lifts stop at the next floor and open their doors.": (
        "What happens to the elevators in a blackout?"
    ),
    "Parcels above twenty kilos are collected at the loading ramp, mornings only.": (
        "Where are heavy packages picked up?"
    ),
}


@dataclass(frozen=True)
class Question:
    """``path``: of the page that is named, empty where there is none; ``value``: what it says;
    ``folder``: where those are that look like it."""

    text: str
    status: Status
    template: str
    kind: str
    path: str = ""
    value: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Corpus:
    pages: tuple[Page, ...]
    questions: tuple[Question, ...]


def corpus(templates: Sequence[Template], size: int, *, named: int, absent: int) -> Corpus:
    """``size`` look-alikes of the templates and the ordinary pages; of each template ``named``
    questions and ``absent`` ones. A smaller corpus is a part of a larger one."""
    held: dict[str, list[Key]] = {}
    own: dict[str, list[Page]] = {}
    for n, template in enumerate(templates):
        keys = draw_keys(template)
        held[template.name] = [
            next(keys) for _ in range(size // len(templates) + (n < size % len(templates)))
        ]
        own[template.name] = [
            template.page(key, place) for place, key in enumerate(held[template.name])
        ]
    pages = [page for each in own.values() for page in each]
    text = "\n".join(page.text for page in pages)
    questions = list[Question]()
    for template in templates:
        chance = random.Random(f"questions {template.name} {size}")
        known, mine = held[template.name], own[template.name]
        folder = mine[0].path.partition("/")[0]
        for place in chance.sample(range(len(mine)), min(named, len(mine))):
            askable = [p for p in template.asked if not template.distinct or _alone(mine, place, p)]
            asked, prop = _wording(template, chance, askable)
            asked = _ask(template, asked, known[place], known)
            path, value = mine[place].path, mine[place].values[prop]
            questions.append(
                Question(asked, "named", template.name, template.kind, path, value, folder)
            )
        for key in _absent(known, absent, chance, lambda key, t=template: t.said(key) in text):
            asked, _ = _wording(template, chance, list(template.asked))
            asked = _ask(template, asked, key, known)
            questions.append(Question(asked, "absent", template.name, template.kind, folder=folder))
    for place, (said, question) in enumerate(ORDINARY.items()):
        path = f"house/{place:02}.txt"
        pages.append(Page(path, f"{said}\n", {}))
        questions.append(Question(question, "ordinary", "house", "ordinary", path, said[:40]))
    return Corpus(tuple(pages), tuple(questions))


def draw_keys(template: Template) -> Iterator[Key]:
    """In an order that is the same every time, none twice."""
    chance, seen = random.Random(f"keys {template.name}"), set[Key]()
    while True:
        key = template.key(chance)
        if key not in seen:
            seen.add(key)
            yield key


def _alone(pages: Sequence[Page], place: int, prop: str) -> bool:
    value = pages[place].values[prop]
    return sum(page.values[prop] == value for page in pages) == 1


def _ask(template: Template, wording: str, key: Key, held: Sequence[Key]) -> str:
    """The question, which names no document but the one with this key."""

    def asked(key: Key) -> str:
        return wording.format(*key, key=template.said(key))

    question = asked(key)
    others = [other for other in held if other != key and asked(other) == question]
    assert not others, f"{question!r} names {others} as well"
    return question


def _wording(template: Template, chance: random.Random, props: Sequence[str]) -> tuple[str, str]:
    prop = chance.choice(props)
    return chance.choice(template.asked[prop]), prop


def _absent(
    held: Sequence[Key], count: int, chance: random.Random, is_there: Callable[[Key], bool]
) -> list[Key]:
    """Keys like those that are held, and nowhere in the pages: a digit is another, or a part is
    that of another key."""
    known, found = set(held), list[Key]()
    while len(found) < count:
        key = list(chance.choice(held))
        place = chance.randrange(len(key))
        if len(key) > 1:
            key[place] = chance.choice(held)[place]
        else:
            at = chance.choice([n for n, sign in enumerate(key[0]) if sign.isdigit()])
            other = chance.choice("0123456789")
            key[0] = key[0][:at] + other + key[0][at + 1 :]
        if tuple(key) not in known and not is_there(tuple(key)):
            known.add(tuple(key))
            found.append(tuple(key))
    return found
