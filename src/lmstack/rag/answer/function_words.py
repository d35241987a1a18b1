"""Words of closed classes that make a sentence say something else: negations and numerals.

Grammars list them in full, so they are listed here, for English, German, French, Spanish and
Japanese; words that are common in one of these languages with another meaning are left out. Does
not cover negation by meaning ("fails to", "is free of", "unlike"), nor its scope: a clause with a
negation in it counts as negated from its beginning to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["NEGATIONS", "clauses", "halves", "numerals"]

_ENGLISH = "not no never none nobody nothing nowhere neither nor without cannot"
_GERMAN = (
    "nicht nichts nie niemals niemand niemanden niemandem nirgends ohne weder kein keine keinen "
    "keinem keiner keines"
)
_FRENCH = "ne n pas jamais aucun aucune sans ni rien"
_SPANISH = "nunca jamás ningún ninguno ninguna nada nadie tampoco sin"
NEGATIONS = frozenset(" ".join((_ENGLISH, _GERMAN, _FRENCH, _SPANISH)).split())
# Conjunctions that begin a clause.
_CONJUNCTIONS = (
    "and but while whereas because since although though "
    "und aber während wohingegen weil obwohl sondern "
    "et mais tandis alors car parce "
    "y e pero mientras porque aunque"
)
_ENDINGS = ("n't", "n’t")
_JAPANESE = re.compile("ない|なかっ|なけれ|なく|ませ|まじ|ずに|ざる|ぬ")
_WORD = re.compile(r"[^\W\d_]+(?:['’]t\b)?")
# Marks that end a clause; not those within a number, a name or a path.
_END = re.compile(r"[,;:.!?](?=\s|$)|[、。，；：！？—–()\n]")
_JOINT = re.compile(rf"{_END.pattern}|\s(?:{'|'.join(_CONJUNCTIONS.split())})\s", re.I)
_NUMERALS = {
    word: str(value)
    for value, words in {
        0: "zero null cero zéro",
        2: "two zwei deux dos",
        3: "three drei trois tres",
        4: "four vier quatre cuatro",
        5: "five fünf cinq cinco",
        6: "six sechs seis",
        7: "seven sieben sept siete",
        8: "eight acht huit ocho",
        9: "nine neun nueve",
        10: "ten zehn dix diez",
        11: "eleven elf onze",
        12: "twelve zwölf douze doce",
        13: "thirteen dreizehn treize trece",
        14: "fourteen vierzehn quatorze catorce",
        15: "fifteen fünfzehn quinze quince",
        16: "sixteen sechzehn dieciséis",
        17: "seventeen siebzehn diecisiete",
        18: "eighteen achtzehn dieciocho",
        19: "nineteen neunzehn diecinueve",
        20: "twenty zwanzig vingt veinte",
        30: "thirty dreißig trente treinta",
        40: "forty vierzig quarante cuarenta",
        50: "fifty fünfzig cinquante cincuenta",
        60: "sixty sechzig soixante sesenta",
        70: "seventy siebzig setenta",
        80: "eighty achtzig ochenta",
        90: "ninety neunzig noventa",
        100: "hundred hundert cien ciento",
        1000: "thousand tausend mille mil",
        1_000_000: "million millions millionen millón millones",
    }.items()
    for word in words.split()
}


def clauses(text: str) -> Iterator[tuple[str, bool]]:
    """The clauses of a text, and whether each is negated."""
    start = 0
    for end in (*(mark.end() for mark in _END.finditer(text)), len(text)):
        clause = text[start:end]
        if clause.strip():
            yield clause, _is_negated(clause)
        start = end


def halves(text: str) -> Iterator[tuple[str, str]]:
    """``text`` in two, at the end of each clause and at each conjunction."""
    for mark in _JOINT.finditer(text):
        one, other = text[: mark.start()].strip(), text[mark.end() :].strip()
        if one and other:
            yield one, other


def _is_negated(clause: str) -> bool:
    words = [word.casefold() for word in _WORD.findall(clause)]
    negated = any(word in NEGATIONS or word.endswith(_ENDINGS) for word in words)
    return negated or _JAPANESE.search(clause) is not None


def numerals(text: str) -> set[str]:
    """The numbers that stand in words, in digits."""
    words = {word.casefold() for word in _WORD.findall(text)}
    return {_NUMERALS[word] for word in words & _NUMERALS.keys()}
