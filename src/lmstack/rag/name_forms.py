"""The ways in which a text writes a name or a number, and where it stands in it.

Names are those of `names.name_groups`: a word, a day or a month (`dates`), a version, or an
identifier, whose runs of letters and digits are joined by hyphens. They are compared run by run,
whatever stands between the runs and between the digits of a long number. Of an identifier with a
long number the letters may be left out, and so may a last digit, which often only checks the
others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice, pairwise, product

from lmstack.rag.dates import (
    days_meant,
    is_date,
    iso_dates,
    short_days,
    slashed_days,
    words_of_date,
)
from lmstack.rag.transliteration import pattern_of_word, transliterations
from lmstack.rag.words import fold

__all__ = [
    "LONG",
    "RUN",
    "YEAR",
    "has_digit",
    "has_initial",
    "holds_together",
    "joined",
    "long_run",
    "place_of",
    "says_enough",
    "spellings",
]

# From so many digits on a number says enough without the letters before it.
LONG = 5
# A number so long may end in a digit that checks the others.
CHECKED = 7
RUN = re.compile(r"\d+|[^\W\d_]+")
YEAR = re.compile(r"(?:19|20)\d\d")
# "8-th", and what is behind the digits of one. A number of two digits may be an ordinal in a text.
_SUFFIX = "(?:st|nd|rd|th)"
_ORDINAL = re.compile(rf"\d+-{_SUFFIX}")
_ORDINARY = 2
# Numbers and letters of an identifier by which it is looked for, and ways to write them.
_RUNS, _WAYS = 6, 64
# Signs between the letters and numbers of an identifier, and between the digits of a number.
_APART = r"[\W_]{0,2}"
_WITHIN_RUN = r"[^\w\n]?"
# The first lines of a text, as far as they are short: they say what it is of.
_HEAD = re.compile(r"(?:\s*\S.{,99}(?:\n|\Z)){,4}")
# Signs between two words of one name, and where one is a number: ", version ".
_BETWEEN, _BESIDE = 4, 10


def has_digit(token: str) -> bool:
    return any(map(str.isdigit, token))


def long_run(name: str) -> str:
    """The longest number of an identifier if it says enough alone; else nothing."""
    if is_date(name) or "." in name:
        return ""
    longest = max(re.findall(r"\d+", name), key=len, default="").lstrip("0")
    return longest if len(longest) >= LONG else ""


def spellings(name: str) -> list[tuple[str, ...]]:
    """The words by which `Bm25.holding` finds ``name`` (of `name_groups`): all of a tuple, for each
    way of writing it. An identifier may besides be written in other pieces (`joined`)."""
    dates = words_of_date(name) + [way for day in days_meant(name) for way in words_of_date(day)]
    if is_date(name):
        return dates
    if "." in name:
        bare = name.lstrip("vV")
        return [(bare,), (f"v{bare}",), *dates]
    if not has_digit(name):
        words = [run for run in RUN.findall(name)[:_RUNS] if len(run) > 1 or not has_initial(name)]
        return list(product(*map(transliterations, words)))
    if _ORDINAL.fullmatch(name):
        return [(name.replace("-", ""),)]
    if name.isdigit() and len(name) <= _ORDINARY:
        return [(way,) for way in (*_with_zeros(name), f"{name}{_suffix(int(name))}")]
    number = long_run(name)
    if not number:
        return list(islice(product(*map(_with_zeros, RUN.findall(name)[:_RUNS])), _WAYS))
    letters, rest = _around(name, number)
    rows = [number, *(f"{'0' * n}{number}" for n in (1, 2, 3))]
    if letters and len(number) + 1 >= CHECKED:
        rows += [f"{number}{digit}" for digit in range(10)]
    ways = [(way, *rest) for row in rows for way in (row, f"{letters}{row}" if letters else row)]
    if len(number) >= CHECKED:
        ways.append((number[:-1], number[-1], *rest))
    return list(dict.fromkeys(ways))


def _with_zeros(run: str) -> list[str]:
    """A number with and without zeros before it; anything else as it is."""
    if not run.isdigit() or YEAR.fullmatch(run):
        return [run]
    bare = run.lstrip("0") or "0"
    return list(dict.fromkeys([run, *(f"{'0' * n}{bare}" for n in range(4))]))


def _suffix(number: int) -> str:
    is_th = number % 100 in (11, 12, 13)
    return "th" if is_th else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def joined(name: str) -> list[list[str]]:
    """The runs of the identifier ``name``, and those without letters before a long number: a text
    may write them in any pieces, "DN204817" as "DN 204 817". Nothing for any other name."""
    if is_date(name) or "." in name or not has_digit(name) or _ORDINAL.fullmatch(name):
        return []
    runs, number = RUN.findall(name), long_run(name)
    return [runs, [number]] if number and len(runs) == 2 and runs[1] == number else [runs]


def has_initial(name: str) -> bool:
    """Whether the words of ``name`` but the last one are initials: "A Keller"."""
    return " " in name


def says_enough(name: str) -> bool:
    """Whether ``name`` is an identifier of so many letters and digits that no word has to stand
    beside it."""
    return bool(joined(name)) and sum(map(str.isalnum, name)) >= LONG


def _around(name: str, number: str) -> tuple[str, list[str]]:
    """The letters right before ``number`` in an identifier, and its other numbers and letters."""
    runs = RUN.findall(name)
    place = next(n for n, run in enumerate(runs) if run.lstrip("0") == number)
    letters = runs[place - 1] if place and not runs[place - 1].isdigit() else ""
    return letters, runs[: place - bool(letters)] + runs[place + 1 :]


def holds_together(text: str, name: Sequence[str]) -> bool:
    """Whether the words of ``name`` (a group of `name_groups`) stand near one another in ``text``,
    in any order."""
    return place_of(iso_dates(fold(text)), name) is not None


def _end_of_head(text: str) -> int:
    found = _HEAD.match(text)
    return found.end() if found else 0


def place_of(text: str, name: Sequence[str]) -> int | None:
    """Where the words of ``name`` (a group of `name_groups`) stand near one another for the first
    time in ``text``, in which days are written as `iso_dates` writes them."""
    places = [
        [found.start() for found in re.finditer(_pattern(word), text, re.IGNORECASE)]
        for word in name
    ]
    is_person = not any(map(has_digit, name))
    room = sum(map(len, name)) + (_BETWEEN if is_person else _BESIDE) * (len(name) - 1)
    for first in places[0]:
        near = [[other for other in others if abs(other - first) <= room] for others in places]
        if all(near) and not (is_person and _parted_by_words(text, [n[0] for n in near], name)):
            return min(n[0] for n in near)
    # "PHA-006: Hand washing" and "Version 2.3" on the next line; "Security advisory for Cartwright"
    # and then, further down, "Fixed in: 7.4.19".
    head = _end_of_head(text)
    words = [n for n, word in enumerate(name) if not has_digit(word)] or range(len(name))
    if is_person or not all(places) or any(places[n][0] >= head for n in words):
        return None
    return max(others[0] for others, word in zip(places, name, strict=True) if has_digit(word))


def _parted_by_words(text: str, places: Sequence[int], name: Sequence[str]) -> bool:
    """Whether another word than an initial stands between the words of ``name``, at ``places``."""
    spans = sorted(zip(places, map(len, name), strict=True))
    between = (text[one + length : other] for (one, length), (other, _) in pairwise(spans))
    return any(len(word) > 1 for part in between for word in RUN.findall(part))


@lru_cache(4096)
def _pattern(name: str) -> str:
    """For ``name`` in whatever way it is written."""
    days = [name] if is_date(name) else days_meant(name)
    ways = [_pattern_of_day(day) for day in days]
    if not is_date(name):
        ways.append(_pattern_of_words(name) if _is_plain(name) else _joint(name))
    return "|".join(ways)


def _is_plain(name: str) -> bool:
    """Whether it is a version, or has no digit."""
    return "." in name or not has_digit(name)


def _joint(name: str) -> str:
    """For an identifier."""
    runs = RUN.findall(name)
    if _ORDINAL.fullmatch(name):
        return rf"(?<!\w){_run(runs[0], '')}{_SUFFIX}(?!\w)"
    number = long_run(name)
    # "T-015" is T-15, but 05 is no 5.
    zeros = "0*" if number or len(runs) > 1 or name.startswith("0") else ""
    parts = [_run(run, zeros) for run in runs]
    start = r"(?<!\w)"
    if number:
        place = next(n for n, run in enumerate(runs) if run.lstrip("0") == number)
        if len(number) >= CHECKED:
            parts[place] = _run(number[:-1]) + _APART + _run(number[-1], "")
        if place and not runs[place - 1].isdigit():
            # Letters may be left out, but there are no others.
            others = rf"(?-i:\b[A-Z]{{{len(runs[place - 1])}}})[ -]"
            digits = (
                rf"(?:{parts[place - 1]}{_APART}|(?<!{others})(?<![^\W\d_]-)(?<!\w)){parts[place]}"
            )
            if len(number) + 1 >= CHECKED:
                digits += rf"(?:{_APART}\d)?"
            parts[place - 1 : place + 1] = [digits]
            start = "" if place == 1 else start
        elif not place:
            # "DN204817"
            start = r"(?<!\d)(?<!\d[.,])"
    joint = _APART.join(parts)
    if name.isdigit() and len(name) <= _ORDINARY:
        joint += f"{_SUFFIX}?"
    if len(runs) > 2 and len(runs[-1]) == 1 and runs[-1].isupper():
        # "AX-4471/c", or "AX-4471 Rev. C"
        apart = rf"[\W_]{{0,4}}(?:[^\W\d_]+[\W_]{{1,2}})?{parts[-1]}"
        joint = _APART.join(parts[:-1]) + rf"(?:[^\w\s]?{runs[-1]}|{apart})"
    return rf"{start}{joint}(?!\w)"


def _run(run: str, zeros: str = "0*") -> str:
    """A pattern for letters or for a number. A long number may be written in groups."""
    if run.isdigit():
        digits = run.lstrip("0") or "0"
        return zeros + (_WITHIN_RUN * (len(digits) >= LONG)).join(digits)
    if len(run) == 1:
        return f"(?-i:{run})" if run.isupper() else run
    return _WITHIN_RUN.join(run) if len(run) <= LONG else re.escape(run)


def _pattern_of_day(day: str) -> str:
    """As `iso_dates` writes it, with two digits of its year, or with slashes in an order that it
    could not tell."""
    ways = [re.escape(way) for way in (day, *short_days(day), *slashed_days(day))]
    return rf"(?<![\w-])(?:{'|'.join(ways)})(?![\w-])"


def _pattern_of_words(name: str) -> str:
    """For a version, or for what has no digit."""
    if has_digit(name):
        bare = re.escape(name.lstrip("vV"))
        return rf"(?<!\w)(?<!\d\.)v?{bare}(?!\w)(?!\.\d)"
    *initials, last = RUN.findall(name) if has_initial(name) else (name,)
    if initials:
        # In full or not, and behind the last name: "Keller, Anna".
        firsts = [rf"(?-i:{initial})\w*" for initial in initials]
        before, word = r"[\W_]{1,2}".join(firsts), pattern_of_word(last)
        return rf"(?<!\w)(?:{before}[\W_]{{1,2}}{word}|{word}, {before})(?!\w)"
    return r"(?<!\w)" + _APART.join(map(pattern_of_word, RUN.findall(name))) + r"(?!\w)"
