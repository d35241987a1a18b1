"""What a question asks for: its parts, the time it asks about, and the kind of its answer.

Rules of English wording, on purpose few. Covers the question alone; what it leans on in a
conversation is `followup`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lmstack.rag.search.lexical import STOP_WORDS
from lmstack.rag.search.words import name_words

__all__ = ["Asked", "fits_kind", "is_of_another", "question_parts", "read_question"]

_WH = "what|who|whom|whose|when|where|which|why|how|until what|for how|in which|on what|with how"
_TOKEN = re.compile(r"\w+")
_PART = re.compile(rf",?\s+and\s+(?=(?:{_WH})\b)", re.I)
_EITHER = re.compile(
    r"^(?P<head>.+?),\s*(?P<a>(?:the |that of )?[^,]+?)\s+or\s+(?P<b>(?:the |that of )?[^,]+?)\?*$",
    re.I,
)
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_AS_OF = re.compile(
    rf"\b(?:as of|as at|back in|in force (?:in|on)|valid (?:in|on)|effective (?:in|on))\s+"
    rf"(?:the year\s+)?(?:[\w.]+\s+){{0,2}}?{_YEAR}\b,?|"
    rf"\b(?:in|under|according to|by) the {_YEAR.replace('year', 'other')} "
    rf"(?:version|edition|revision)(?: of)?,?",
    re.I,
)
_NOW = re.compile(
    r"^(?:as (?:things|matters) stand(?: today| now)?|at present|at the moment|currently|"
    r"nowadays|right now|today|as of (?:today|now))\b,?\s*|"
    r"\s+(?:at present|at the moment|nowadays|right now|as of (?:today|now))(?=\?*$)",
    re.I,
)
_CAPITAL = r"[A-ZÀ-Þ][\w'’-]*"
_NAME = re.compile(rf"\b{_CAPITAL}(?:\.?\s+(?:(?:van|von|de|der|of|al|bin)\s+)*{_CAPITAL})*")
_NUMBER = (
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    r"forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|once|twice|daily|"
    r"weekly|monthly|yearly|annually|every)\b"
)
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december)"
)
_TIME_UNIT = r"(?:second|minute|hour|day|night|week|month|quarter|year|decade|centur)"
# A question like the first holds an answer like the second (after Li and Roth, 2002).
_KINDS = tuple(
    (re.compile(asked, re.I), re.compile(answer, re.I))
    for asked, answer in (
        (
            r"\bhow much (?:does|do|did|is|are|was|money|will)\b.*\b(?:cost|pay|paid|price|fee|"
            r"charge|claim|receive|earn|spend|worth|allowance|budget|allot|salary|authori[sz]e|refund)|"
            r"\b(?:what|which|how high) .*\b(?:price|fee|cost|budget|salary|allowance|fine)\b",
            rf"[€$£¥]|\b(?:euro|dollar|pound|cent|eur|usd|gbp|free|%|percent)|{_NUMBER}",
        ),
        (
            r"\bhow long\b|\bfor what period\b|\bwhat is the duration\b|"
            r"\bhow many (?:years|months|weeks|days|hours|minutes)\b|"
            r"\bhow far (?:ahead|in advance)\b|\b(?:delivery|warm-up|waiting) time\b",
            rf"\b{_TIME_UNIT}|\b(?:met(?:er|re)s?|km|kilomet|miles?|feet|cm|mm|until|since|forever)\b",
        ),
        (r"\bhow (?:heavy|much weight)\b|\bweigh\b", r"\d.*\b(?:kg|kilo|g|gram|ton|lb|pound|oz)"),
        (r"\bhow (?:hot|cold|warm)\b|\btemperature\b", r"\d.*(?:°|\bdegree|celsius|fahrenheit)"),
        (r"\bhow loud\b|\bnoise level\b", r"\d.*(?:\bdb|decibel)|quiet|loud"),
        (
            r"\b(?:until|at|from) what time\b|\bwhat time\b",
            r"\b\d{1,2}[.:]\d\d\b|\d\s*(?:am|pm|o'clock)\b|noon|midnight|dusk|dawn|sun(?:set|rise)",
        ),
        (
            r"^\W*when\b|\b(?:what|which) (?:date|day|year)\b|\bsince what year\b",
            rf"\b(?:1\d|20)\d\d\b|\b{_MONTH}\b|\bday\b|\d|\b(?:spring|summer|autumn|winter)\b|"
            r"day\b|\b(?:dawn|dusk|noon|midnight|week|month|after|before|once|as soon)\b",
        ),
        (r"\bwhat (?:share|percentage|percent)\b", r"%|\bper ?cent|\bhalf|\bquarter|\bthird|\d"),
        (
            r"\bhow (?:many|much|often|old|big|large|high|tall|fast|deep|wide|far|strong|tight)\b",
            _NUMBER,
        ),
    )
)
_WHERE = re.compile(r"^\W*where\b|\b(?:which|what) (?:town|city|place|country|room)\b", re.I)
_PLACE = re.compile(
    r"\b(?:at|in|on|near|to|from|by|beside|behind|under|inside|outside|above|below|between|opposite|"
    r"through|point|place|site|room|page|folder|file|directory|path)\b|/",
    re.I,
)
_CONFINED = re.compile(r"\W*(?:in|during|at the end of|by the end of) (?:19|20)\d\d\b", re.I)
_ROLE = re.compile(
    r"^\W*(?:(?:the|an?|our|its|your)\s+(?:\w+\s+)?)?(?:master|captain|managers?|director|officers?|president|secretary|treasurer|keepers?|"
    r"drivers?|crew|staff|team|council|owner|author|editor|doctor|nurse|engineers?|operators?|"
    r"users?|clients?|customers?|skipper|cook|steward|leader|department|company|government|"
    r"ministry|administrator|warden|mate|people|passengers?|everyone|anyone|nobody|children|he|she|"
    r"they|we|you|I)\b",
    re.I,
)
_CALENDAR = re.compile(rf"(?:{_MONTH}|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.I)
_WHO = re.compile(r"^\W*(?:[\w]+ )?who(?:m|se)?\b|\bwhich person\b", re.I)


@dataclass(frozen=True, slots=True)
class Asked:
    """``text`` is the question without what only names a time for its document: ``year`` if an
    edition of then is asked for (None: the one in force)."""

    text: str
    year: int | None = None


def read_question(question: str) -> Asked:
    """ "As of 2019, what is the fee?" asks what the edition of 2019 says; "at present" asks for
    what is assumed anyway."""
    year = None
    found = _AS_OF.search(question)
    if found:
        year = int(found["year"] or found["other"])
        question = question[: found.start()] + question[found.end() :]
    text = _NOW.sub("", question)
    text = " ".join(text.split()).strip(" ,")
    return Asked(text[:1].upper() + text[1:] if text else question, year)


def question_parts(question: str) -> list[str]:
    """The questions in a question: two that are joined, or one about each of two things that are
    compared. Names that only the first part holds are not carried over."""
    compared = _EITHER.match(question.strip())
    if compared and name_words(f"of {compared['a']}") and name_words(f"of {compared['b']}"):
        return [f"{compared['head']}, {compared[side].strip()}?" for side in ("a", "b")]
    parts = [part.strip(" ,?") for part in _PART.split(question)]
    if len(parts) < 2 or not all(name_words(f"of {part[1:]}") for part in parts):
        return [question]
    return [f"{part[:1].upper()}{part[1:]}?" for part in parts]


def fits_kind(question: str, sentence: str) -> bool:
    """Whether ``sentence`` holds the kind of thing that is asked for, beside what the question
    itself holds: an amount in its unit, a date, a place, or a name where a person is asked for.
    True where the question does not say what kind that is. What is said of one year alone answers
    no question that names none."""
    if _CONFINED.match(sentence) and not re.search(r"\d{4}|\bwhen\b|\byear\b", question, re.I):
        return False
    known = set(_TOKEN.findall(question.casefold()))
    left = " ".join(
        w for w in sentence.split() if not known.issuperset(_TOKEN.findall(w.casefold()))
    )
    for asked, answer in _KINDS:
        if asked.search(question):
            return answer.search(left) is not None
    if _WHERE.search(question):
        return bool(_PLACE.search(left) or _NAME.search(left[1:]))
    if _WHO.search(question):
        # The first word has a capital in any case, and a name has more than that word.
        begins = _NAME.match(left)
        after = begins.end() if begins and " " not in begins.group() else 0
        names = [m.group() for m in _NAME.finditer(left, after)]
        return any(not _CALENDAR.match(name) for name in names) or bool(_ROLE.match(sentence))
    return True


def _is_continued(asked: list[str], said: list[str], names: set[str]) -> bool:
    """Whether a name goes on otherwise than in the question: the Fornax grill, not the Fornax
    oven."""
    after = {
        word: asked[n + 1].casefold()
        for n, word in enumerate(asked[:-1])
        if word in names and asked[n + 1] not in names
    }
    spoken = {word.casefold() for word in said}
    for n, word in enumerate(said[:-1]):
        wanted, found = after.get(word), said[n + 1]
        if wanted and not {wanted, found} & STOP_WORDS and wanted not in spoken:
            return found.islower() and len(found) > 3 and not found.endswith(("ed", "s"))
    return False


def is_of_another(question: str, sentence: str) -> bool:
    """Whether ``sentence`` names a like thing in place of the one that is asked about: the Ashford
    library for the Ashworth library, the K-320 for the K-310."""
    asked = _TOKEN.findall(question)
    known = {word.casefold() for word in asked}
    names = set(name_words(question))
    parts = {
        word.casefold()
        for n, word in enumerate(asked)
        if word in names or (n and asked[n - 1] in names)
    } - STOP_WORDS
    said = _TOKEN.findall(sentence)
    if _is_continued(asked, said, names):
        return True
    if {name.casefold() for name in names} <= {word.casefold() for word in said}:
        return False
    for n, word in enumerate(said):
        if word.casefold() in parts:
            beside = said[max(0, n - 1) : n] + [w for w in said[n + 1 : n + 2] if w.isdigit()]
            for other in beside:
                plain = other.casefold()
                named = other[0].isupper() or any(c.isdigit() for c in other)
                if named and plain not in known and plain not in STOP_WORDS:
                    return True
    return False
