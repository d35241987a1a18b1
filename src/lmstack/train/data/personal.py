"""Personal data in rows, counted by kind so that a person knows before a model has learned it.

Covers e-mail addresses, international telephone numbers, payment cards (with the check digit of
ISO/IEC 7812, Luhn's) and bank accounts (IBAN, with the check digits of ISO 13616). Patterns see
what is written in these forms and nothing else: no names, no addresses, no numbers without a
country code. For those there is the task ``ner`` with the model ``pii-ner``. Nothing that was found
is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["personal_kinds"]

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,63}(?![\w-])")
# E.164: a plus sign, a country code, at most 15 digits in all.
_PHONE = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)")
# Four groups of four, or as American Express prints them.
_CARD = re.compile(
    r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?![\w-])"
    r"|(?<![\w.-])3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?![\w-])"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")


def personal_kinds(text: str) -> frozenset[str]:
    """Which kinds of personal data ``text`` holds: ``email``, ``phone``, ``card``, ``iban``."""
    return frozenset(
        kind
        for kind, (needle, pattern, is_valid) in _KINDS.items()
        if needle(text) and any(is_valid(match[0]) for match in pattern.finditer(text))
    )


def _luhn(number: str) -> bool:
    digits = [int(c) for c in number if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(number: str) -> bool:
    plain = number.replace(" ", "")
    return (
        15 <= len(plain) <= 34
        and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1
    )


def _any(_found: str) -> bool:
    return True


_DIGITS = re.compile(r"\d[\d -]{11}")
_KINDS: dict[str, tuple[Callable[[str], object], re.Pattern[str], Callable[[str], bool]]] = {
    "email": (lambda text: "@" in text, _EMAIL, _any),
    "phone": (lambda text: "+" in text, _PHONE, _any),
    "card": (_DIGITS.search, _CARD, _luhn),
    "iban": (re.compile(r"[A-Z]{2}\d{2}").search, _IBAN, _iban),
}
