"""Days and months in one form, ``2019-05-14`` and ``2019-05``, however they are written.

Read are "14 May 2019", "May 14th, 2019", "14.05.2019", "May 2019" and "05/2019". With slashes a day
may stand before its month or behind it: which one it is follows from a number above 12, in it or in
another day of the text. Months are English.
"""

from __future__ import annotations

import re

__all__ = ["days_meant", "is_date", "iso_dates", "short_days", "slashed_days", "words_of_date"]

# Not those of `calendar`, which follow the locale of the process.
_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTHS = {
    name.casefold(): number for number, whole in enumerate(_NAMES, 1) for name in (whole, whole[:3])
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_WRITTEN = re.compile(
    rf"(?<![\w.])(?:{_DAY}\.?\s+(?:of\s+)?({_MONTH})\b\.?,?\s+(\d{{4}})"
    rf"|({_MONTH})\b\.?\s+{_DAY},?\s+(\d{{4}})"
    r"|(\d{1,2})[./](\d{1,2})[./](\d{4})|(\d{4})[-/.](\d{1,2})[-/.](\d{1,2}))\b",
    re.IGNORECASE,
)
_OF_MONTH = re.compile(
    rf"(?<![\w./-])(?:({_MONTH})\b\.?,?\s+(\d{{4}})|(\d{{1,2}})/(\d{{4}}))(?![\w/-])",
    re.IGNORECASE,
)
_SLASHED = re.compile(r"(?<![\w./])(\d{1,2})/(\d{1,2})/\d{4}\b")
# "26.4.21" may be a version too.
_SHORT = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d\d)")
_ISO = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")


def iso_dates(text: str) -> str:
    """``text`` with each day and each month as ISO 8601 writes it."""
    # Days that can only be read with the month first, or last, speak for the others.
    ways = {
        int(second) > 12 for first, second in _SLASHED.findall(text) if _is_clear(first, second)
    }
    month_first = ways.pop() if len(ways) == 1 else None
    return _OF_MONTH.sub(_iso_month, _WRITTEN.sub(lambda found: _iso(found, month_first), text))


def days_meant(name: str) -> list[str]:
    """The days that ``name`` may mean, which has two digits of a year: "26.4.21"."""
    found = _SHORT.fullmatch(name)
    if found is None:
        return []
    days = [f"{century}{found[3]}-{int(found[2]):02}-{int(found[1]):02}" for century in (20, 19)]
    return [day for day in days if is_date(day)]


def slashed_days(name: str) -> list[str]:
    """Ways to write the day ``name`` with slashes that leave open what its month is."""
    year, month, *days = name.split("-")
    if not days or int(days[0]) > 12:
        return []
    ways = ((days[0], month), (str(int(days[0])), str(int(month))))
    return [f"{one}/{other}/{year}" for way in ways for one, other in (way, way[::-1])]


def short_days(name: str) -> list[str]:
    """Ways to write the day ``name`` with two digits of its year."""
    year, month, *days = name.split("-")
    if not days:
        return []
    return [
        f"{day}.{of}.{year[2:]}"
        for day in dict.fromkeys((days[0], str(int(days[0]))))
        for of in dict.fromkeys((month, str(int(month))))
    ]


def _is_clear(first: str, second: str) -> bool:
    return (int(first) > 12) != (int(second) > 12)


def _iso(found: re.Match[str], month_first: bool | None) -> str:
    first, second, third = (part for part in found.groups() if part is not None)
    if found[10]:
        year, month, day = first, int(second), int(third)
    elif found[7]:
        year, month, day = third, int(second), int(first)
        if "/" in found[0]:
            if day <= 12 and month <= 12 and day != month:
                if month_first is None:
                    return found[0]
                month, day = (day, month) if month_first else (month, day)
            else:
                month, day = min(month, day), max(month, day)
    else:
        named, day = (second, int(first)) if found[1] else (first, int(second))
        year, month = third, _MONTHS[named.casefold()]
    return f"{year}-{month:02}-{day:02}" if 0 < month <= 12 and 0 < day <= 31 else found[0]


def _iso_month(found: re.Match[str]) -> str:
    month = _MONTHS[found[1].casefold()] if found[1] else int(found[3])
    return f"{found[2] or found[4]}-{month:02}" if 0 < month <= 12 else found[0]


def is_date(name: str) -> bool:
    """Whether ``name`` is a day or a month as `iso_dates` writes it."""
    found = _ISO.fullmatch(name)
    return found is not None and 0 < int(found[2]) <= 12 and 0 < int(found[3] or 1) <= 31


def words_of_date(name: str) -> list[tuple[str, ...]]:
    """The words that a text with the date ``name`` (of `iso_dates`) holds, all of a tuple for each
    way of writing it. Nothing for what is no date."""
    if not is_date(name):
        return []
    year, month, *days_of = name.split("-")
    number, named = str(int(month)), (_NAMES[int(month) - 1], _NAMES[int(month) - 1][:3])
    months = dict.fromkeys((month, number))
    if not days_of:
        return [(word, year) for word in dict.fromkeys((*named, *months))]
    day = days_of[0]
    days = dict.fromkeys((day, str(int(day))))
    dotted = [(f"{d}.{m}.{year}",) for d in days for m in months]
    dotted += [(way,) for way in short_days(name)]
    written = [(d, word, year) for d in days for word in dict.fromkeys(named)]
    # Parted by slashes, numbers are words of their own; small ones stand for much else.
    parted = [(year, month, day)]
    if int(day) > 12 or day == month:
        parted.append((year, number, str(int(day))))
    return [(name,), *dotted, *written, *parted]
