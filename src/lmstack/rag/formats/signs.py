"""Characters that show something else than they are: turned reading order, no width at all.

They stay in the text, since offsets count them, and are named in ``fields["warnings"]``.
"""

from __future__ import annotations

import re

__all__ = ["odd_signs"]

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# A joiner between letters is part of Persian, Hindi and emoji; alone or in runs it hides text.
_ZERO = re.compile("[\u200b\u2060\u180e]|(?<!^)\ufeff|[\u200c\u200d]{2}|[\U000e0000-\U000e007f]")


def odd_signs(text: str) -> tuple[str, ...]:
    """``bidi`` for overrides of the reading order, ``zero-width`` for hidden characters."""
    found = []
    if _BIDI.search(text):
        found.append("bidi")
    if _ZERO.search(text):
        found.append("zero-width")
    return tuple(found)
