"""Names and numbers that say which document is meant, in one form however they are written.

A name is a word with a capital, a number without leading zeros, a day or a month (`dates`), or an
identifier: letters and digits in turn, joined by hyphens. "CW-1725 Rev. X" and "CW-1725-X" are the
identifier ``CW-1725-X``, "PO 140317" is ``PO-140317``. Of an identifier with a long number the
letters may be left out, and so may a last digit, which often only checks the others. Names that
follow one another are a group: ("Anna", "Keller"), ("BIO-119",).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice, pairwise, product

from lmstack.rag.dates import days_meant, is_date, iso_dates, short_days, words_of_date
from lmstack.rag.transliteration import pattern_of_word, transliterations
from lmstack.rag.words import STOP_WORDS, fold, tokens_in

__all__ = [
    "holds_together",
    "joined",
    "name_groups",
    "only_mentions",
    "ordinal_of",
    "says_enough",
    "spellings",
]

# From so many digits on a number says enough without the letters before it.
LONG = 5
# A number so long may end in a digit that checks the others.
CHECKED = 7
_RUN = re.compile(r"\d+|[^\W\d_]+")
_PARTED = re.compile(r"[\n,;:!?()]")
# "Dr. Keller", "Rev. C" with a full stop, and what has no vowel: "Mr", "Dr".
_ABBREVIATION = re.compile(r"[^\W\d_]{2,4}")
_WITHOUT_VOWEL = re.compile(r"[B-DF-HJ-NP-TV-XZ][b-df-hj-np-tv-xz]{1,2}")
# Numbers and letters of an identifier by which it is looked for.
_RUNS, _WAYS = 6, 64
# "MWh", "URLs", "kHz": units, and abbreviations in the plural.
_UNIT = re.compile(r"[A-Z]{2,}[a-z]|[a-z][A-Z][a-z]?")
# Signs between the letters and numbers of an identifier, and between the digits of a number.
_APART = r"[\W_]{0,2}"
_WITHIN_RUN = r"[^\w\n]?"
_YEAR = re.compile(r"(?:19|20)\d\d")
# The first lines of a text, as far as they are short: they say what it is of.
_HEAD = re.compile(r"(?:\s*\S.{,99}(?:\n|\Z)){,4}")
_SUPERSCRIPT = re.compile("[\u00b2\u00b3\u00b9]")
# Signs between two words of one name, and where one is a number: ", version ".
_BETWEEN, _BESIDE = 4, 10
# Words between an identifier and a letter that is the last part of it: "AX-4471 in revision C".
_WITHIN = 2


def name_groups(text: str, known: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The names of ``text``, those that follow one another together, and "Keller, Anna". A capital
    makes a name within a sentence, at its beginning only before another name; where there are only
    capitals it makes none. A stop word with one is part of a name beside it: "6 May". A date is a
    group of its own, and abbreviations are no names. Of the words ``known``, in small
    letters, each is one."""
    found = tokens_in(iso_dates(fold(_SUPERSCRIPT.sub("", text))))
    plain = any(match.group().islower() for match in found)
    names = [_is_name(match, plain) or match.group() in known for match in found]
    groups: list[list[re.Match[str]]] = []
    last = -1
    for place, match in enumerate(found):
        token = match.group()
        if names[place] and _is_abbreviation(found, names, place):
            last = place if last == place - 1 else last
            continue
        beside = names[place - 1 : place] + names[place + 1 : place + 2]
        within = place and match.string[found[place - 1].end() : match.start()].isspace()
        if not (names[place] or (plain and within and any(beside) and _is_capital(token))):
            if token == "A" and place and _is_last_part(groups, found, place):
                groups[-1].append(match)
            continue
        if (
            groups and len(token) == 1 and token.isupper() and _is_last_part(groups, found, place)
        ) or (groups and last == place - 1 and _goes_on(groups[-1], found, names, place)):
            groups[-1].append(match)
        else:
            groups.append([match])
        last = place
    written = [[match.group() for match in group] for group in groups]
    if (
        found
        and written
        and written[0] == [found[0].group()]
        and not (_has_digit(written[0][0]) or written[0][0] in known)
    ):
        del written[0]
    return [
        tuple(_rows_of_numbers(_identifiers(group)))
        for group in written
        if len(group) < 2 or any(len(word) > 1 for word in group)
    ]


def _is_name(match: re.Match[str], plain: bool) -> bool:
    token = match.group()
    if token.lower() in STOP_WORDS or _UNIT.fullmatch(token):
        return False
    return _has_digit(token) or (plain and any(map(str.isupper, token)))


def _is_capital(token: str) -> bool:
    """Whether it has a capital that says something: "I" always has one."""
    return len(token) > 1 and any(map(str.isupper, token))


def _has_digit(token: str) -> bool:
    return any(map(str.isdigit, token))


def _is_abbreviation(found: Sequence[re.Match[str]], names: Sequence[bool], place: int) -> bool:
    """Whether the word at ``place`` is short for what the name behind it is."""
    one = found[place]
    if place + 1 == len(found) or not _ABBREVIATION.fullmatch(one.group()):
        return False
    behind = found[place + 1]
    between = one.string[one.end() : behind.start()]
    if not (names[place + 1] or behind.group() == "A"):
        return False
    return between == ". " or (between == " " and _WITHOUT_VOWEL.fullmatch(one.group()) is not None)


def _goes_on(
    group: Sequence[re.Match[str]],
    found: Sequence[re.Match[str]],
    names: Sequence[bool],
    place: int,
) -> bool:
    """Whether the name at ``place`` belongs to the ``group`` before it."""
    one, other = group[-1], found[place]
    if is_date(one.group()) or is_date(other.group()):
        return False
    parted = one.string[one.end() : other.start()]
    if not _PARTED.search(parted):
        return True
    # "Keller, Anna", and no more of a list.
    listed = zip(found[place + 1 : place + 3], names[place + 1 : place + 3], strict=True)
    return (
        len(group) == 1
        and parted == ", "
        and not _has_digit(one.group() + other.group())
        and not any(is_one and not _has_digit(match.group()) for match, is_one in listed)
    )


def _is_last_part(
    groups: Sequence[Sequence[re.Match[str]]], found: Sequence[re.Match[str]], place: int
) -> bool:
    """Whether the letter at ``place`` ends an identifier before it: "AX-4471 in revision C"."""
    if not groups:
        return False
    before = groups[-1][-1]
    token = before.group()
    return (
        bool(re.search(r"\d$", token))
        and len(_RUN.findall(token)) > 1
        and "." not in token
        and not is_date(token)
        and any(before is match for match in found[max(0, place - _WITHIN - 1) : place])
    )


def _identifiers(group: Sequence[str]) -> Iterator[str]:
    """The names of a group, what is one identifier together: letters with their number, digits in
    groups of three, a part number that is typed with spaces, a letter at its end."""
    names: list[str] = []
    letters, before = "", ""
    for place, word in enumerate(group):
        bare = word.replace("-", "")
        if is_date(word) or "." in word:
            names.append(word)
        elif len(word) > 1 and word.isupper() and word.isalpha() and _number_behind(group, place):
            letters = word
        elif names and _goes_with(before, names[-1], word):
            grouped = word.isdigit() and before.isdigit() and len(_RUN.findall(names[-1])) < 3
            apart = "" if grouped else "-"
            names[-1] += apart + word
        elif _has_digit(word):
            name = "-".join(map(_without_zeros, _RUN.findall(word)))
            number = bare.isdigit()
            long_behind = any(map(_long_run, group[place + 1 :]))
            if letters and number and (_long_run(word) or not long_behind):
                name, letters = f"{letters}-{name}", ""
            names.append(name)
        else:
            names.append(word)
        before = word
    yield from names


def _rows_of_numbers(names: Iterable[str]) -> Iterator[str]:
    """``names``, where three numbers or more in a row are one: "0441 23 45 67"."""
    for number, row in groupby(names, str.isdigit):
        found = list(row)
        yield from ["-".join(found)] if number and len(found) > 2 else found


def _goes_with(before: str, name: str, word: str) -> bool:
    """Whether ``word`` goes on with the identifier ``name``, whose last word is ``before``."""
    if is_date(before) or "." in before or not _has_digit(before):
        return False
    if len(word) == 1 and word.isalpha():
        return _is_identifier(name) or len(name) >= LONG
    if not word.isdigit():
        return False
    if before.isdigit() and len(_RUN.findall(name)) < 3:
        grouped = len(word) == 3 and len(before) <= 3
        return grouped and len(re.findall(r"\d", name)) + len(word) >= LONG
    return before.isalnum() and not name.isdigit() and not _YEAR.fullmatch(word)


def _without_zeros(run: str) -> str:
    bare = run.lstrip("0")
    return bare if run.isdigit() and len(bare) >= LONG else run


def _number_behind(group: Sequence[str], place: int) -> bool:
    """Whether numbers, and no other words before them, follow on ``place``."""
    behind = group[place + 1 : place + 2]
    return bool(behind) and behind[0].replace("-", "").isdigit() and not is_date(behind[0])


def _is_identifier(name: str) -> bool:
    return _has_digit(name) and "-" in name and not is_date(name) and "." not in name


def _long_run(name: str) -> str:
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
    if not _has_digit(name):
        return list(product(*map(transliterations, _RUN.findall(name)[:_RUNS])))
    number = _long_run(name)
    if not number:
        return list(islice(product(*map(_with_zeros, _RUN.findall(name)[:_RUNS])), _WAYS))
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
    if not run.isdigit() or _YEAR.fullmatch(run):
        return [run]
    bare = run.lstrip("0") or "0"
    return list(dict.fromkeys([run, *(f"{'0' * n}{bare}" for n in range(4))]))


def joined(name: str) -> list[list[str]]:
    """The runs of the identifier ``name``, and those without letters before a long number: a text
    may write them in any pieces, "DN204817" as "DN 204 817". Nothing for any other name."""
    if is_date(name) or "." in name or not _has_digit(name):
        return []
    runs, number = _RUN.findall(name), _long_run(name)
    return [runs, [number]] if number and len(runs) == 2 and runs[1] == number else [runs]


def says_enough(name: str) -> bool:
    """Whether ``name`` is an identifier of so many letters and digits that no word has to stand
    beside it."""
    return bool(joined(name)) and sum(map(str.isalnum, name)) >= LONG


def _around(name: str, number: str) -> tuple[str, list[str]]:
    """The letters right before ``number`` in an identifier, and its other numbers and letters."""
    runs = _RUN.findall(name)
    place = next(n for n, run in enumerate(runs) if run.lstrip("0") == number)
    letters = runs[place - 1] if place and not runs[place - 1].isdigit() else ""
    return letters, runs[: place - bool(letters)] + runs[place + 1 :]


def holds_together(text: str, name: Sequence[str]) -> bool:
    """Whether the words of ``name`` (a group of `name_groups`) stand near one another in ``text``,
    in any order."""
    return _place(iso_dates(fold(text)), name) is not None


def ordinal_of(text: str, name: Sequence[str]) -> int | None:
    """How many others of its form stand in ``text`` before ``name`` (a group of `name_groups`):
    0 for the number of an invoice itself, more for that of another which it mentions. Nothing is
    said of the form of a single word. None where ``text`` lacks the name."""
    text = iso_dates(fold(text))
    place = _place(text, name)
    if place is None or (len(name) == 1 and not _has_digit(name[0])):
        return place and 0
    return len(_others(text[:place], name))


def only_mentions(text: str, name: Sequence[str]) -> bool:
    """Whether another of the form of ``name`` stands at the head of ``text``, and this one further
    down or nowhere: it is of the other one, then. So it is where an identifier with letters stands
    behind another: "Document KP-5919-B, supersedes KP-5919-S"."""
    text = iso_dates(fold(text))
    place, head = _place(text, name), _end_of_head(text)
    if len(name) == 1 and not _has_digit(name[0]):
        return False
    if place is None or place >= head:
        return bool(_others(text[:head], name))
    is_identifier = len(name) == 1 and says_enough(name[0]) and any(map(str.isalpha, name[0]))
    return is_identifier and bool(_others(text[:place], name))


def _others(text: str, name: Sequence[str]) -> set[str]:
    """What is of the form of ``name`` in ``text``: of its long number or else of each number, or
    of all of its words."""
    numbers = [word for word in name if _has_digit(word)]
    if not numbers:
        form = r"[^\w.:\n]{1,4}".join(_pattern(word, of_form=True) for word in name)
        # A heading in capitals is nobody's name.
        return {each for each in re.findall(form, text) if not each.isupper()}
    return {
        each.group()
        for word in [word for word in numbers if _long_run(word)][:1] or numbers
        for each in re.finditer(_pattern(word, of_form=True), text)
        if not re.fullmatch(_pattern(word), each.group(), re.IGNORECASE)
    }


def _end_of_head(text: str) -> int:
    found = _HEAD.match(text)
    return found.end() if found else 0


def _place(text: str, name: Sequence[str]) -> int | None:
    """Where the words of ``name`` stand near one another for the first time."""
    places = [
        [found.start() for found in re.finditer(_pattern(word), text, re.IGNORECASE)]
        for word in name
    ]
    is_person = not any(map(_has_digit, name))
    room = sum(map(len, name)) + (_BETWEEN if is_person else _BESIDE) * (len(name) - 1)
    for first in places[0]:
        near = [[other for other in others if abs(other - first) <= room] for others in places]
        if all(near) and not (is_person and _parted_by_words(text, [n[0] for n in near], name)):
            return min(n[0] for n in near)
    # "PHA-006: Hand washing" and "Version 2.3" on the next line; "Security advisory for Cartwright"
    # and then, further down, "Fixed in: 7.4.19".
    head = _end_of_head(text)
    words = [n for n, word in enumerate(name) if not _has_digit(word)] or range(len(name))
    if is_person or not all(places) or any(places[n][0] >= head for n in words):
        return None
    return max(others[0] for others, word in zip(places, name, strict=True) if _has_digit(word))


def _parted_by_words(text: str, places: Sequence[int], name: Sequence[str]) -> bool:
    """Whether another word than an initial stands between the words of ``name``, at ``places``."""
    spans = sorted(zip(places, map(len, name), strict=True))
    between = (text[one + length : other] for (one, length), (other, _) in pairwise(spans))
    return any(len(word) > 1 for part in between for word in _RUN.findall(part))


@lru_cache(4096)
def _pattern(name: str, *, of_form: bool = False) -> str:
    """For ``name`` in whatever way it is written, or for any other name of its form."""
    days = [name] if is_date(name) else days_meant(name)
    ways = [_pattern_of_day(day, of_form) for day in days]
    if not is_date(name):
        ways.append(_pattern_of_words(name, of_form) if _is_plain(name) else _joint(name, of_form))
    return "|".join(ways)


def _is_plain(name: str) -> bool:
    """Whether it is a version, or has no digit."""
    return "." in name or not _has_digit(name)


def _joint(name: str, of_form: bool) -> str:
    """For an identifier."""
    runs = _RUN.findall(name)
    number = _long_run(name)
    # "T-015" is T-15, but 05 is no 5.
    zeros = "0*" if number or len(runs) > 1 or name.startswith("0") else ""
    parts = [_run(run, of_form, zeros) for run in runs]
    start = r"(?<!\w)"
    if number:
        place = next(n for n, run in enumerate(runs) if run.lstrip("0") == number)
        if len(number) >= CHECKED:
            parts[place] = _run(number[:-1], of_form) + _APART + _run(number[-1], of_form, "")
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
    if len(runs) > 2 and len(runs[-1]) == 1 and runs[-1].isupper():
        # "AX-4471/c", or "AX-4471 Rev. C"
        apart = rf"[\W_]{{0,4}}(?:[^\W\d_]+[\W_]{{1,2}})?{parts[-1]}"
        last = parts[-1] if of_form else runs[-1]
        joint = _APART.join(parts[:-1]) + rf"(?:[^\w\s]?{last}|{apart})"
    return rf"{start}{joint}(?!\w)"


def _run(run: str, of_form: bool, zeros: str = "0*") -> str:
    """A pattern for letters or for a number, or for as many others. A long number may be written
    in groups."""
    if of_form and _YEAR.fullmatch(run):
        return _YEAR.pattern
    if run.isdigit():
        digits = [r"\d"] * len(run) if of_form else list(run.lstrip("0") or "0")
        is_long = len(digits) >= LONG
        return (zeros if is_long or not of_form else "") + (_WITHIN_RUN * is_long).join(digits)
    if of_form:
        return rf"[^\W\d_a-z]{{{len(run)}}}" if run.isupper() else r"[^\W\d_]+"
    if len(run) == 1:
        return f"(?-i:{run})" if run.isupper() else run
    return _WITHIN_RUN.join(run) if len(run) <= LONG else re.escape(run)


def _pattern_of_day(day: str, of_form: bool) -> str:
    """As `iso_dates` writes it, or with two digits of its year."""
    if of_form:
        return r"(?<![\w-])" + re.sub(r"\d", r"\\d", day) + r"(?![\w-])"
    ways = [re.escape(way) for way in (day, *short_days(day))]
    return rf"(?<![\w-])(?:{'|'.join(ways)})(?![\w-])"


def _pattern_of_words(name: str, of_form: bool) -> str:
    """For a version, or for what has no digit."""
    if _has_digit(name):
        bare = re.escape(name.lstrip("vV"))
        own = re.sub(r"\d+", r"\\d+", bare) if of_form else bare
        return rf"(?<!\w)(?<!\d\.)v?{own}(?!\w)(?!\.\d)"
    if of_form:
        return r"(?<!\w)[^\W\d_a-z][^\W\d_]{2,}(?!\w)"
    return r"(?<!\w)" + _APART.join(map(pattern_of_word, _RUN.findall(name))) + r"(?!\w)"
