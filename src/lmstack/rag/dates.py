"""Days in one form, ``2019-05-14``, however they are written.

Read are "14 May 2019", "May 14th, 2019", "14.05.2019", and with slashes what can only be one day.
Months are English.
"""

from __future__ import annotations

import re

__all__ = ["iso_days", "words_of_day"]

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
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)")


def iso_days(text: str) -> str:
    """``text`` with each day as ISO 8601 writes it."""
    return _WRITTEN.sub(_iso, text)


def _iso(found: re.Match[str]) -> str:
    first, second, third = (part for part in found.groups() if part is not None)
    if found[10]:
        year, month, day = first, int(second), int(third)
    elif found[7]:
        year, month, day = third, int(second), int(first)
        if "/" in found[0]:
            if day <= 12 and month <= 12 and day != month:
                return found[0]
            month, day = min(month, day), max(month, day)
    else:
        named, day = (second, int(first)) if found[1] else (first, int(second))
        year, month = third, _MONTHS[named.casefold()]
    return f"{year}-{month:02}-{day:02}" if 0 < month <= 12 and 0 < day <= 31 else found[0]


def words_of_day(name: str) -> list[tuple[str, ...]]:
    """The words that a text with the day ``name`` (of `iso_days`) holds, whichever way it is
    written: one of each tuple. Nothing for what is no day."""
    found = _ISO.fullmatch(name)
    year, month, day = found.groups() if found else ("", "0", "")
    if not 0 < int(month) <= 12:
        return []
    named = (_NAMES[int(month) - 1], _NAMES[int(month) - 1][:3])
    return [(year,), (*named, month, str(int(month))), (day, str(int(day)))]
