"""Questions that people wrote as headings of manuals, with the sections below them as answers.

The frequently asked questions of Python, Django, Celery, Debian, R, MPlayer and "An Anarchist
FAQ", as Debian packages carry them. What is indexed has a number ("§ 12") before each heading and
in place of those that are questions, and "§" wherever else a question is repeated (tables of
contents, references), so no question is in its own document. A quarter of the sections, by a hash,
is cut out. The gold is a section from its heading to the next.

Kinds: "how" or "why" where that is the first word, else "other"; besides "list", "table" or "code"
where the section holds a list of three items or more, a table, or a block of code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from answers_data import Collection, Gold, Item, is_fourth, merged
from pinned import DebianPackage, debian_folder

__all__ = ["MANUALS", "Section", "any_of", "neutral", "sections"]

_HEADING = r"<h([1-5])\b[^>]*>(.*?)</h\1>"
# One of a question of DocBook's, which is a row of a table.
_ROW = r'<tr class="(question)"[^>]*>(.*?)</tr>'
_TAG = re.compile(r"<[^>]+>")
# "1.2.", "A.1.1" and the labels of questions ("Q:", "P:").
_NUMBERING = re.compile(r"^(?:(?:[A-Z]\.)?\d+(?:\.\d+)*\.?|\w{1,3}\s?:)\s+")
_ANCHOR = re.compile(r'\b(?:id|name)="([^"]+)"')
# Links to other pages, laid out as a table, below the last section.
_FOOTER = '<div class="navfooter"'
# Characters of a section; shorter ones only point elsewhere.
SHORTEST = 80


@dataclass(frozen=True)
class Section:
    """``start``, ``body`` (where the heading ends) and ``end`` are offsets in the file. ``level``:
    1 to 5, or "question" for a row."""

    number: int
    level: str
    anchor: str
    heading: str
    start: int
    body: int
    end: int

    @property
    def asks(self) -> bool:
        """People ask in statements too, where a row is for questions."""
        return self.level == "question" or self.heading.endswith(("?", "？"))


@dataclass(frozen=True)
class Manual:
    """``asked``: a manual whose questions are asked instead of its own, found by the anchors that
    both have."""

    name: str
    language: str
    package: DebianPackage
    folder: str
    pattern: str
    heading: str = _HEADING
    asked: Manual | None = None

    def texts(self) -> dict[str, str]:
        folder = (debian_folder(self.package) / "usr/share" / self.folder).resolve()
        found = {path.name: path.read_text("utf-8") for path in sorted(folder.glob(self.pattern))}
        if not found:
            raise SystemExit(f"{self.package.name} has no {self.folder}/{self.pattern}")
        return found

    def questions(self) -> dict[tuple[str, str], str]:
        """By the stem of the file's name and the anchor."""
        return {
            (_stem(name), section.anchor): section.heading
            for name, text in self.texts().items()
            for section in sections(text, self.heading)
            if section.asks
        }


def load(manual: Manual) -> Collection:
    own, asked = manual.questions(), (manual.asked or manual).questions()
    repeated = any_of(own.values())
    documents, items = dict[str, str](), list[Item]()
    for name, text in manual.texts().items():
        found = sections(text, manual.heading)
        out = {
            s.number
            for s in found
            if s.asks and is_fourth(f"{manual.package.name}/{name}#{s.number}")
        }
        if len(out) < len(found):
            documents[name] = neutral(text, found, out, repeated)
        for section in found:
            question = asked.get((_stem(name), section.anchor))
            body = text[section.body : section.end]
            if question is not None and len(_plain(body)) >= SHORTEST:
                gold = Gold(name, section.number, left_out=section.number in out)
                items.append(Item(question, tuple(_kinds(question, body)), (gold,)))
    asked_in = manual.asked.language if manual.asked is not None else ""
    return Collection(manual.name, manual.language, documents, merged(items), asked_in)


def _stem(name: str) -> str:
    return name.split(".")[0]


def sections(text: str, heading: str = _HEADING) -> list[Section]:
    """Each heading, its numbering left out, with what follows it until the next one."""
    matches = list(re.finditer(heading, text, re.S))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    found = []
    for number, (match, end) in enumerate(zip(matches, ends, strict=True), 1):
        before = text[max(0, match.start() - 200) : match.start()]
        anchors = _ANCHOR.findall(match.group()) or _ANCHOR.findall(before)[-1:] or [str(number)]
        words = _NUMBERING.sub("", _plain(match.group(2)).rstrip("¶ "))
        level = match.group(1)
        found.append(Section(number, level, anchors[0], words, match.start(), match.end(), end))
    return found


def neutral(text: str, found: Sequence[Section], out: set[int], repeated: re.Pattern[str]) -> str:
    """``text`` without the sections ``out``, its headings numbers, questions repeated in it "§"."""
    hidden = partial(repeated.sub, "§")
    parts = [hidden(text[: found[0].start] if found else text)]
    for section in found:
        if section.number not in out:
            parts.append(_numbered(section))
            parts.append(hidden(text[section.body : section.end]))
    return "".join(parts)


def _numbered(section: Section) -> str:
    """The heading of ``section`` without a question."""
    if section.level == "question":
        return f"<tr><td></td><td><p>§ {section.number}</p></td></tr>"
    words = "" if section.asks else f" {html.escape(section.heading)}"
    return f"<h{section.level}>§ {section.number}{words}</h{section.level}>"


def any_of(questions: Iterator[str] | Sequence[str]) -> re.Pattern[str]:
    """Any of ``questions`` in HTML: white space and tags may stand between their words."""
    longest_first = sorted(set(questions), key=len, reverse=True)
    gap = r"(?:\s|<[^<>]*>)*"
    patterns = [
        gap.join(map(_in_markup, re.findall(r"\w+|[^\w\s]", question)))
        for question in longest_first
    ]
    return re.compile("|".join(patterns))


def _in_markup(word: str) -> str:
    plain, escaped = re.escape(word), re.escape(html.escape(word))
    return plain if plain == escaped else f"(?:{plain}|{escaped})"


def _plain(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", markup)).split())


def _kinds(question: str, body: str) -> Iterator[str]:
    first = question.split(maxsplit=1)[0].lower()
    yield first if first in ("how", "why") else "other"
    if body.count("<li") >= 3:
        yield "list"
    for tag, kind in (("<table", "table"), ("<pre", "code")):
        if tag in body.partition(_FOOTER)[0]:
            yield kind


_DEBIAN_EN = Manual(
    "debian-faq",
    "en",
    DebianPackage(
        "debian-faq", "12.2", "303f1c9de1d5858975490dd9f50a84fcd1c22f04c584a01afc30b5b4fc4fe52d"
    ),
    "doc/debian/FAQ",
    "*.en.html",
)
_DEBIAN_DE = Manual(
    "debian-faq-de",
    "de",
    DebianPackage(
        "debian-faq-de", "12.2", "20f85639cd995cbd5abb00c9ed9cb1f481a3b793788455c3e81da188143fdf23"
    ),
    "doc/debian/FAQ/de",
    "*.de.html",
)
_MANUALS = (
    Manual(
        "python-faq",
        "en",
        DebianPackage(
            "python3.13-doc",
            "3.13.5-2+deb13u5",
            "a8a924637eeb25e666df5bbf7660ae09eb280be9effa39f9f6929e7a452bf65c",
        ),
        "doc/python3.13/html/faq",
        "[!i]*.html",
    ),
    Manual(
        "django-faq",
        "en",
        DebianPackage(
            "python-django-doc",
            "3:4.2.30-0+deb13u1",
            "25e2b8b0032a465059a94b735469f3daa164e2bfc039c1051c7593295fba3e76",
        ),
        "doc/python-django-doc/html/faq",
        "*.html",
    ),
    Manual(
        "celery-faq",
        "en",
        DebianPackage(
            "python-celery-doc",
            "5.5.2-2",
            "17a6c8501d4a0fa2c524ca2fe23685770c598e46fb3a59fa6269a8b30ab3a146",
        ),
        "doc/python-celery-doc/html",
        "faq.html",
    ),
    _DEBIAN_EN,
    Manual(
        "r-faq",
        "en",
        DebianPackage(
            "r-doc-html",
            "4.5.0-3",
            "234e6801ee3ac1a30b38292856f8742339af01c94c904d86a4a1b37db57eb2a3",
        ),
        "R/doc/manual",
        "R-FAQ.html",
    ),
    Manual(
        "anarchist-faq",
        "en",
        DebianPackage(
            "anarchism",
            "15.3-4",
            "fc5f82ba6223bfdbcdee662980e5c1ec6fe6cd4f7aa60a0d08da2fcd61ecf178",
        ),
        "doc/anarchism/html",
        "sec[ABF][0-9]*.html",
    ),
    _DEBIAN_DE,
    Manual(
        "debian-faq-fr",
        "fr",
        DebianPackage(
            "debian-faq-fr",
            "12.2",
            "ea6d4f6265a4c787fa317311219a55df28d2f9289a1e46d383612495ed15732c",
        ),
        "doc/debian/FAQ/fr",
        "*.fr.html",
    ),
    Manual(
        "debian-faq-ja",
        "ja",
        DebianPackage(
            "debian-faq-ja",
            "12.2",
            "69b38443d1e28fdd85fb6a8f00a6e6dd63952e5f5113a7968337606ad794cee3",
        ),
        "doc/debian/FAQ/ja",
        "*.ja.html",
    ),
    *(
        Manual(
            f"mplayer-faq-{language}",
            language,
            DebianPackage(
                "mplayer-doc",
                "2:1.5+svn38674-2",
                "90cb899df7f23452348d6bad2c15f01bb45f6440b3a010f29c7594037e668ab1",
            ),
            f"doc/mplayer/HTML/{language}",
            "faq.html",
            heading=_ROW,
        )
        for language in ("es", "fr")
    ),
    Manual(
        "debian-faq-de-en",
        "de",
        _DEBIAN_DE.package,
        _DEBIAN_DE.folder,
        _DEBIAN_DE.pattern,
        asked=_DEBIAN_EN,
    ),
)
MANUALS = {manual.name: partial(load, manual) for manual in _MANUALS}
