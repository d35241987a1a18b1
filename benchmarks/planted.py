"""A corpus with planted facts: documents of several pages, and questions whose answers are known.

    python benchmarks/planted.py FOLDER --seed 1      write it, with questions.jsonl beside it

Sixty entities of six kinds (`planted_words`) have a document each, in Markdown, HTML, DOCX or PDF.
A document states most of its kind's attributes, some of them in a table, between prose that states
nothing, beside a statement about a similar entity. For two entities in five there is an older
version with other values; what tells the versions apart is a field of the file, a sentence, or
only a date. Everything follows from the seed. Gold is a pattern for the words of the statement;
`Gold.spans` finds it in the text that was extracted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from planted_files import Body, Page, write_page
from planted_words import FIRST, KINDS, LAST, Attribute, Kind

__all__ = ["Corpus", "Fact", "Gold", "Question", "make_corpus"]

FORMATS = ("md", "html", "docx", "pdf")
LABELS = {
    "keeping": "Retention of records",
    "notice": "Advance notice of requests",
    "limit": "Approval limit of a line manager",
    "noise": "Noise level",
    "temperature": "Highest ambient temperature",
    "lead": "Delivery time",
    "factory": "Place of manufacture",
    "fee": "Fee",
    "term": "Duration",
    "termination": "Notice of termination",
    "cap": "Limit of liability",
    "court": "Place of jurisdiction",
    "penalty": "Penalty for a day of delay",
    "next": "Next meeting",
    "venue": "Destination of the excursion",
    "budget": "Budget for repairs",
    "present": "Quorum",
    "interval": "Greasing interval of the bearings",
    "torque": "Torque of the cover bolts",
    "warmup": "Warm-up time",
    "oil": "Oil for the gearbox",
    "alarm": "Code for a blocked filter",
    "load": "Largest load on the table",
    "opened": "Year of opening",
    "area": "Floor area",
    "closing": "Closing time on weekdays",
    "ticket": "Admission for adults",
    "assembly": "Assembly point in case of fire",
    "allowance": "Daily allowance",
    "training": "Induction",
    "review": "Next review",
}
_TOWNS = (
    "Aarhus Bergen Cahors Delft Evora Faro Ghent Halden Imatra Jena Kotka Lugano Malmo Narvik "
    "Ostrava Porto Quimper Ravenna Sopron Tampere Udine Viborg Wismar Ystad Zadar"
)
TOWNS = _TOWNS.split()
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
PLACES = (
    *("old well", "car park on the north side", "bowling green", "war memorial"),
    *("loading ramp", "chestnut tree", "bus turning circle", "boat slip"),
)


def _day(draw: random.Random, year: int) -> tuple[str, str]:
    """A date in words and in digits."""
    month, day = draw.randrange(12), draw.randrange(1, 29)
    return f"{day} {MONTHS[month]} {year}", f"{year}-{month + 1:02}-{day:02}"


VALUES: dict[str, Callable[[random.Random], str]] = {
    "months": lambda d: f"{d.choice((12, 18, 24, 30, 36, 48, 60))} months",
    "kilograms": lambda d: f"{d.randrange(21, 980)} kg",
    "decibels": lambda d: f"{d.randrange(48, 99)} dB",
    "euros": lambda d: f"€{d.randrange(110, 9900) * 10:,}",
    "pounds": lambda d: f"£{d.randrange(4, 96)}.{d.choice(('00', '25', '50', '75'))}",
    "town": lambda d: d.choice(TOWNS),
    "celsius": lambda d: f"{d.randrange(28, 66)} °C",
    "count": lambda d: f"{d.randrange(112, 9870):,}",
    "small": lambda d: str(d.randrange(7, 49)),
    "weeks": lambda d: f"{d.randrange(2, 30)} weeks",
    "days": lambda d: f"{d.randrange(5, 95)} days",
    "years": lambda d: f"{d.randrange(2, 16)} years",
    "hours": lambda d: f"{d.randrange(3, 480)} hours",
    "minutes": lambda d: f"{d.randrange(4, 59)} minutes",
    "person": lambda d: f"{d.choice(FIRST)} {d.choice(LAST)}",
    "date": lambda d: _day(d, d.choice((2026, 2027)))[0],
    "percent": lambda d: f"{d.randrange(1, 19)}.{d.choice('0257')} percent",
    "newtons": lambda d: f"{d.randrange(12, 140)} Nm",
    "code": lambda d: (
        f"{d.choice('CHLP')}{d.choice('GVT')}-{d.choice((32, 46, 68, 100, 150, 220))}"
    ),
    "alarm": lambda d: f"{d.choice('EFW')}{d.randrange(11, 98)}",
    "amperes": lambda d: f"{d.choice((6, 10, 13, 16, 20, 25, 32, 50, 63))} A",
    "founded": lambda d: str(d.randrange(1790, 1999)),
    "metres": lambda d: f"{d.randrange(310, 9400):,} square metres",
    "clock": lambda d: f"{d.randrange(4, 10)}.{d.choice(('00', '15', '30', '45'))} pm",
    "place": lambda d: d.choice(PLACES),
}


@dataclass(frozen=True)
class Fact:
    """``pattern`` finds the statement in extracted text; the words of a table's row in either
    layout."""

    path: str
    entity: str
    attribute: str
    value: str
    pattern: str
    in_table: bool = False
    year: int | None = None
    version: int = 1

    @property
    def gold(self) -> Gold:
        return Gold(self.path, self.pattern, self.value, self.version)


@dataclass(frozen=True)
class Gold:
    path: str
    pattern: str
    value: str
    version: int

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [m.span() for m in re.finditer(self.pattern, text)]

    def is_in(self, answer: str) -> bool:
        """Whether ``answer`` holds the value, with or without commas and small differences of
        space."""
        plain = re.sub(r"(?<=\d),(?=\d)", "", self.value).casefold()
        said = " ".join(re.sub(r"(?<=\d),(?=\d)", "", answer).casefold().split())
        return re.search(rf"(?<![\w.]){re.escape(plain)}(?!\w)", said) is not None


@dataclass(frozen=True)
class Question:
    """``parts``: each is met by any of its golds. ``stale``: statements of other versions, which
    are wrong here. No parts: there is no answer."""

    id: str
    kind: str
    text: str
    parts: tuple[tuple[Gold, ...], ...] = ()
    stale: tuple[Gold, ...] = ()

    @property
    def answerable(self) -> bool:
        return bool(self.parts)


@dataclass
class Entity:
    kind: Kind
    name: str
    twin: str
    absent: Attribute | None = None
    facts: list[Fact] = field(default_factory=list)
    years: tuple[int, ...] = ()
    editions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Corpus:
    folder: pathlib.Path
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]


def make_corpus(folder: pathlib.Path, seed: int, *, held_out: bool = False) -> Corpus:
    """Write the documents and give what was planted. ``held_out`` asks in other words."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    entities = [
        Entity(kind, name, twin)
        for kind in KINDS
        for name, twin in zip(kind.names, kind.twins, strict=True)
    ]
    for number, entity in enumerate(entities):
        if held_out and number % 2:
            entity.name, entity.twin = entity.twin, entity.name
        for page, path in _documents(draw, entity, number):
            write_page(folder / path, page)
    questions = list(_questions(draw, entities, held_out))
    return Corpus(folder, tuple(f for e in entities for f in e.facts), tuple(questions))


def _documents(draw: random.Random, entity: Entity, number: int) -> Iterator[tuple[Page, str]]:
    ending = FORMATS[number % 4]
    slug = re.sub(r"[^a-z0-9]+", "-", entity.kind.title.format(e=entity.name).lower()).strip("-")
    first = draw.randrange(2018, 2022)
    entity.editions = (first, first + draw.randrange(2, 4)) if number % 5 < 2 else (first + 2,)
    entity.years = tuple(range(first - 3, first)) if number % 2 else (first - 2, first - 1)
    chosen = [a for a in entity.kind.attributes if not a.yearly]
    entity.absent = chosen.pop(draw.randrange(len(chosen)))
    values: dict[str, str] = {}
    tabled = {a.name for a in draw.sample(chosen, 2)}
    changed = {a.name for a in draw.sample(chosen, 3)}
    yearly = {y: VALUES["count"](draw) for y in entity.years}
    order = draw.sample(range(len(chosen)), len(chosen))
    for version, year in enumerate(entity.editions, 1):
        for a in chosen:
            old = values.get(a.name)
            while a.name not in values or (
                version > 1 and a.name in changed and values[a.name] == old
            ):
                values[a.name] = VALUES[a.value](draw)
        several = len(entity.editions) > 1
        names = (f"{slug}-{year}.{ending}", f"{slug}-v{version}.{ending}")
        old_path = f"archive/{slug}.{ending}" if version == 1 else f"{slug}.{ending}"
        path = (*names, old_path)[number % 3] if several else f"{slug}.{ending}"
        page = Page(entity.kind.title.format(e=entity.name))
        _date(draw, page, entity, version, number)
        planted = [(chosen[i], values[chosen[i].name]) for i in order]
        _fill(draw, page, entity, path, version, planted, tabled, yearly)
        yield page, path


def _date(draw: random.Random, page: Page, entity: Entity, version: int, number: int) -> None:
    """By turns: fields and words, words, a date alone."""
    said, digits = _day(draw, entity.editions[version - 1])
    way = number // 4 % 3
    page.opening = (
        f"Version {version}.0, in force from {said}.",
        f"This edition is valid from {said}.",
        f"Status: {said}",
    )[way]
    if way == 0:
        page.fields |= {"date": digits, "version": f"{version}.0"}
    if version > 1 and way < 2:
        page.opening += f" It replaces the edition of {entity.editions[version - 2]}."


def _fill(
    draw: random.Random,
    page: Page,
    entity: Entity,
    path: str,
    version: int,
    planted: list[tuple[Attribute, str]],
    tabled: set[str],
    yearly: dict[int, str],
) -> None:
    kind = entity.kind
    rows: list[tuple[str, str]] = []
    sentences: list[str] = []

    def plant(a: Attribute, value: str, text: str, *, table: bool, year: int | None) -> None:
        pattern = _loosely(text)
        if table:
            pattern += r"[\s|:]+" + _loosely(value)
        entity.facts.append(Fact(path, entity.name, a.name, value, pattern, table, year, version))

    for a, value in planted:
        if a.name in tabled:
            label = LABELS.get(a.name, a.name.capitalize())
            rows.append((label, value))
            plant(a, value, label, table=True, year=None)
        else:
            text = draw.choice(a.statements).format(e=entity.name, v=value)
            text = text[0].upper() + text[1:]
            sentences.append(text)
            plant(a, value, text, table=False, year=None)
    annual = next(a for a in kind.attributes if a.yearly)
    for year, value in yearly.items():
        text = annual.statements[0].format(e=entity.name, v=value, y=year)
        sentences.append(text)
        plant(annual, value, text, table=False, year=year)
    rival = draw.choice([a for a, _ in planted])
    sentences.append(
        _upper(rival.statements[-1].format(e=entity.twin, v=VALUES[rival.value](draw)))
    )
    draw.shuffle(sentences)
    for number, heading in enumerate(kind.sections):
        share = sentences[number :: len(kind.sections)]
        body = Body(heading, break_before=number in (2, 4))
        for half in (share[::2], share[1::2]):
            paragraph = draw.sample(kind.filler, draw.randrange(3, 7))
            for sentence in half:
                paragraph.insert(draw.randrange(len(paragraph) + 1), sentence)
            body.paragraphs.append(" ".join(paragraph))
        if number == 2:
            body.table = [(f"Key data of the {entity.name}", "Value"), *rows]
        page.bodies.append(body)


def _loosely(text: str) -> str:
    """A pattern for the same words, whatever white space is between them."""
    return r"\s+".join(map(re.escape, text.split()))


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _questions(draw: random.Random, entities: list[Entity], held_out: bool) -> Iterator[Question]:
    ask = _Asker(int(held_out))
    for n, entity in enumerate(entities):
        yield from ask.facts(entity)
        if len(entity.editions) > 1:
            yield from ask.versions(entity)
        yield from ask.missing(draw, entity, n)
    for kind in KINDS:
        yield from ask.several(draw, [e for e in entities if e.kind is kind])


@dataclass
class _Asker:
    """``words``: which of an attribute's questions is asked."""

    words: int
    count: int = 0

    def _make(
        self,
        kind: str,
        text: str,
        parts: tuple[tuple[Gold, ...], ...] = (),
        stale: tuple[Gold, ...] = (),
    ) -> Question:
        self.count += 1
        return Question(f"{kind}-{self.count}", kind, text, parts, stale)

    def _asked(self, entity: Entity, fact: Fact) -> str:
        attribute = next(a for a in entity.kind.attributes if a.name == fact.attribute)
        return attribute.questions[self.words].format(e=entity.name, y=fact.year)

    def facts(self, entity: Entity) -> Iterator[Question]:
        """One a fact that all versions state alike."""
        by_key: dict[tuple[str, int | None], list[Fact]] = {}
        for fact in entity.facts:
            by_key.setdefault((fact.attribute, fact.year), []).append(fact)
        asked_year = entity.years[len(entity.name) % len(entity.years)]
        for (_, year), facts in by_key.items():
            if len({f.value for f in facts}) == 1 and year in (None, asked_year):
                kind = "year" if facts[0].year else "table" if facts[0].in_table else "fact"
                golds = tuple(f.gold for f in facts)
                yield self._make(kind, self._asked(entity, facts[0]), (golds,))

    def versions(self, entity: Entity) -> Iterator[Question]:
        old = entity.editions[0]
        pairs = [
            (first, second)
            for first in entity.facts
            for second in entity.facts
            if (first.version, second.version) == (1, 2)
            and (first.attribute, first.year) == (second.attribute, second.year)
            and first.value != second.value
        ]
        for n, (first, second) in enumerate(pairs):
            asked = self._asked(entity, second)
            lower = asked[0].lower() + asked[1:]
            if n == 0:
                begin = ("At present, ", "As things stand today, ")[self.words]
                yield self._make("current", begin + lower, ((second.gold,),), (first.gold,))
            elif n == 1:
                begin = (f"As of {old}, ", f"Back in {old}, ")[self.words]
                yield self._make("as-of", begin + lower, ((first.gold,),), (second.gold,))
            else:
                yield self._make("current", asked, ((second.gold,),), (first.gold,))

    def missing(self, draw: random.Random, entity: Entity, number: int) -> Iterator[Question]:
        assert entity.absent is not None
        if number % 3 < 2:
            yield self._make(
                "no-attribute", entity.absent.questions[self.words].format(e=entity.name)
            )
        if number % 3 > 0:
            attributes = [a for a in entity.kind.attributes if not a.yearly]
            text = draw.choice(attributes).questions[self.words]
            # One in two of another kind's entities, so that nothing fits at all.
            name = entity.name.split()[-1]
            other = f"{draw.choice(LAST)} {name}" if number % 2 else _changed(entity.name)
            yield self._make("no-entity", text.format(e=other))
        if number % 3 == 1 or number % 6 == 0:
            annual = next(a for a in entity.kind.attributes if a.yearly)
            year = entity.years[-1] + 1 if number % 2 else entity.years[0] - 1
            yield self._make("no-year", annual.questions[self.words].format(e=entity.name, y=year))

    def several(self, draw: random.Random, entities: list[Entity]) -> Iterator[Question]:
        """Two documents needed: comparisons, and two questions in one."""
        single = [e for e in entities if len(e.editions) == 1]
        comparable = [a for a in entities[0].kind.attributes if a.compare]
        for a in comparable:
            able = [(e, f) for e in single for f in e.facts if f.attribute == a.name]
            if len(able) < 2:
                continue
            (one, first), (two, second) = draw.sample(able, 2)
            text = a.compare.format(a=one.name, b=two.name)
            yield self._make("compare", text, ((first.gold,), (second.gold,)))
        for one, two in zip(single[::2], single[1::2], strict=False):
            first = draw.choice([f for f in one.facts if f.year is None])
            second = draw.choice([f for f in two.facts if f.year is None])
            asked = self._asked(two, second)
            text = f"{self._asked(one, first)[:-1]}, and {asked[0].lower()}{asked[1:]}"
            yield self._make("two", text, ((first.gold,), (second.gold,)))


def _changed(name: str) -> str:
    """The same name with another number, or another first letter."""
    if re.search(r"\d", name):
        return re.sub(r"\d+", lambda m: str(int(m.group()) + 113), name)
    return {"A": "Ch", "B": "Tr", "C": "D"}.get(name[0], "St") + name[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="ask in the held-out words")
    args = parser.parse_args()
    corpus = make_corpus(args.folder, args.seed, held_out=args.held_out)
    rows = [json.dumps(dataclasses.asdict(q), ensure_ascii=False) for q in corpus.questions]
    (args.folder.parent / "questions.jsonl").write_text("\n".join(rows) + "\n")
    kinds: dict[str, int] = {}
    for question in corpus.questions:
        kinds[question.kind] = kinds.get(question.kind, 0) + 1
    print(f"{len(corpus.facts)} facts, {len(corpus.questions)} questions: {kinds}")


if __name__ == "__main__":
    main()
