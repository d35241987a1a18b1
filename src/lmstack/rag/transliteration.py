"""Letters of other alphabets than the English, and what people type instead of them.

"Müller" is typed Mueller or Muller, "Voß" Voss, "Sørensen" Soerensen. Texts are those of
`words.fold`: without diacritics, so that "ü" is "u" there, but "ß" and "ø" are what they are.
"""

from __future__ import annotations

import re
from itertools import islice, product

__all__ = ["pattern_of_word", "plain_letters", "transliterations"]

# What a letter may be written as, and of these the letters that folding leaves.
_WRITTEN = {
    "a": ("a", "ae", "æ"),
    "o": ("o", "oe", "ø"),
    "u": ("u", "ue"),
    "ss": ("ss", "ß"),
    "l": ("l", "ł"),
    "d": ("d", "đ", "ð"),
}
_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "ð": "d"})
_UNIT = re.compile("ss|.")
# Shorter words mean something else with another letter: Poe, Po.
_SHORTEST = 4
_MOST = 48


def plain_letters(word: str) -> str:
    """``word`` in small letters, with letters of English only, as short as it is written."""
    plain = word.lower().translate(_PLAIN)
    return re.sub("([aou])e", r"\1", plain) if len(plain) >= _SHORTEST else plain


def transliterations(word: str) -> list[str]:
    """Ways to write ``word``, itself first, at most `_MOST`."""
    if len(word) < _SHORTEST:
        return [word]
    units = (_WRITTEN.get(unit, (unit,)) for unit in _UNIT.findall(plain_letters(word)))
    return list(dict.fromkeys([word, *map("".join, islice(product(*units), _MOST))]))


def pattern_of_word(word: str) -> str:
    """For ``word`` in any of its ways, where case is ignored."""
    if len(word) < _SHORTEST:
        return re.escape(word)
    units = _UNIT.findall(plain_letters(word))
    return "".join(
        f"(?:{'|'.join(_WRITTEN[unit])})" if unit in _WRITTEN else re.escape(unit) for unit in units
    )
