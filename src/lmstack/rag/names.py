"""Names and numbers in a question that say which document is meant.

A name is a word with a capital, a number without leading zeros, a day or a month (`dates`), or an
identifier: letters and digits in turn, joined by hyphens. "CW-1725 Rev. X" and "CW-1725-X" are the
identifier ``CW-1725-X``, "PO 140317" is ``PO-140317``, "DN 204 817" ``DN-204817``. Names that
follow one another are a group: ("Anna", "Keller"), ("BIO-119",). An initial goes with the word
behind it: "A. Keller" is ``A Keller``. How texts write them is in `name_forms`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby, zip_longest

from lmstack.rag.dates import is_date, iso_dates
from lmstack.rag.name_forms import LONG, RUN, YEAR, has_digit, long_run
from lmstack.rag.words import STOP_WORDS, fold, tokens_in

__all__ = ["name_groups"]

_PARTED = re.compile(r"[\n,;:!?()]")
# "Dr. Keller", "Rev. C" with a full stop, and what has no vowel: "Mr", "Dr".
_ABBREVIATION = re.compile(r"[^\W\d_]{2,4}")
_WITHOUT_VOWEL = re.compile(r"[B-DF-HJ-NP-TV-XZ][b-df-hj-np-tv-xz]{1,2}")
# "MWh", "URLs", "kHz": units, and abbreviations in the plural.
_UNIT = re.compile(r"[A-Z]{2,}[a-z]|[a-z][A-Z][a-z]?")
_SUPERSCRIPT = re.compile("[\u00b2\u00b3\u00b9]")
# Of a text, and of names in a row: nobody asks for more, and each is looked up.
MOST_GROUPS, MOST_NAMES = 64, 32
# "Keller, Anna: insurer", where no word needs a small letter.
_INVERTED = re.compile(r"\W*[^\W\d_]+, [^\W\d_]+:")
# Words between an identifier and a letter that is the last part of it: "AX-4471 in revision C".
_WITHIN = 2


def name_groups(text: str, known: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The names of ``text``, those that follow one another together, and "Keller, Anna". A capital
    makes a name within a sentence, at its beginning only before another name; where there are only
    capitals it makes none. A stop word with one is part of a name beside it: "6 May". A date is a
    group of its own, and abbreviations are no names. Of the words ``known``, in small
    letters, each is one. The first `MOST_GROUPS`, of each the first `MOST_NAMES`."""
    found = tokens_in(iso_dates(fold(_SUPERSCRIPT.sub("", text))))
    plain = any(match.group().islower() for match in found) or bool(_INVERTED.match(text))
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
    written = [list(_with_initials(group[:MOST_NAMES])) for group in groups[:MOST_GROUPS]]
    if (
        found
        and written
        and written[0] == [found[0].group()]
        and not (has_digit(written[0][0]) or written[0][0] in known)
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
    return has_digit(token) or (plain and any(map(str.isupper, token)))


def _is_capital(token: str) -> bool:
    """Whether it has a capital that says something: "I" always has one."""
    return len(token) > 1 and any(map(str.isupper, token))


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
    ended = other.string.startswith(":", other.end())
    listed = zip(found[place + 1 : place + 3], names[place + 1 : place + 3], strict=True)
    return (
        len(group) == 1
        and parted == ", "
        and not has_digit(one.group() + other.group())
        and (ended or not any(is_one and not has_digit(match.group()) for match, is_one in listed))
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
        and len(RUN.findall(token)) > 1
        and "." not in token
        and not is_date(token)
        and any(before is match for match in found[max(0, place - _WITHIN - 1) : place])
    )


def _with_initials(group: Sequence[re.Match[str]]) -> Iterator[str]:
    """The words of a group, an initial and what it stands before as one: "E. Lockwood"."""
    initial = ""
    for one, other in zip_longest(group, group[1:]):
        word = one.group()
        between = one.string[one.end() : other.start()] if other else ""
        if len(word) == 1 and word.isupper() and between == ". " and not has_digit(other.group()):
            initial += f"{word} "
            continue
        yield f"{initial}{word}"
        initial = ""


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
            grouped = word.isdigit() and before.isdigit() and len(RUN.findall(names[-1])) < 3
            apart = "" if grouped else "-"
            names[-1] += apart + word
        elif has_digit(word):
            name = "-".join(map(_without_zeros, RUN.findall(word)))
            number = bare.isdigit()
            long_behind = any(map(long_run, group[place + 1 :]))
            if letters and number and (long_run(word) or not long_behind):
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
    if is_date(before) or "." in before or not has_digit(before):
        return False
    if len(word) == 1 and word.isalpha():
        return _is_identifier(name) or len(name) >= LONG
    if not word.isdigit():
        return False
    if before.isdigit() and len(RUN.findall(name)) < 3:
        grouped = len(word) == 3 and len(before) <= 3
        return grouped and len(re.findall(r"\d", name)) + len(word) >= LONG
    return before.isalnum() and not name.isdigit() and not YEAR.fullmatch(word)


def _without_zeros(run: str) -> str:
    bare = run.lstrip("0")
    return bare if run.isdigit() and len(bare) >= LONG else run


def _number_behind(group: Sequence[str], place: int) -> bool:
    """Whether numbers, and no other words before them, follow on ``place``."""
    behind = group[place + 1 : place + 2]
    return bool(behind) and behind[0].replace("-", "").isdigit() and not is_date(behind[0])


def _is_identifier(name: str) -> bool:
    return has_digit(name) and "-" in name and not is_date(name) and "." not in name
