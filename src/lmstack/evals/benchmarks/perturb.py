"""Texts perturbed as HELM does it (Liang et al., 2022, arXiv:2211.09110).

    lowercase, contractions, misspellings, spaces   each by itself
    mild_mix          those four in a row: HELM's robustness
    typos             letters become neighbours on the keyboard
    gender_pronouns   male pronouns made female: a part of HELM's fairness
    dialect           words of a list that somebody brings, such as HELM's from Standard American to
                      African American Vernacular English: another part of it

HELM's word lists are read from the files of its package (crfm-helm, Apache-2.0) as data; nothing of
it is run. Its list of dialect is in no package, nor is that of first names, whose perturbation is
left out. A perturbation draws from a generator that a sample's id seeds, so that every
model sees the same text. Not covered: scoring by the worse of two (`worst_case`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from lmstack.core import FormatError, Message
from lmstack.evals.benchmarks.data_files import DataFile, file_bytes
from lmstack.evals.task import Sample

__all__ = [
    "Perturbation",
    "contractions",
    "dialect",
    "gender_pronouns",
    "literal_in",
    "lowercase",
    "match_case",
    "mild_mix",
    "misspellings",
    "perturbed_sample",
    "spaces",
    "typos",
]

_MISSPELLED, _MISTYPED, _MOST_SPACES = 0.1, 0.1, 3


@dataclass(frozen=True)
class Perturbation:
    """``change``: of a text, by a generator. ``words``: the hash of its word lists."""

    name: str
    change: Callable[[str, Random], str] = field(hash=False, compare=False)
    words: str = ""

    @property
    def protocol(self) -> dict[str, str]:
        return {"name": self.name, "words": self.words}


def perturbed_sample(sample: Sample, perturbation: Perturbation) -> Sample:
    """With its input changed: of a conversation, the last turn. A passage in the metadata, which
    HELM has in the input, changes too. Choices and targets stay as they are."""
    draw = Random(sample.id)
    passage = sample.metadata.get("passage")
    if isinstance(passage, str):
        changed = {**sample.metadata, "passage": perturbation.change(passage, draw)}
        sample = replace(sample, metadata=changed)
    text = perturbation.change(sample.text, draw)
    if isinstance(sample.input, str):
        return replace(sample, input=text)
    last = sample.input[-1]
    return replace(sample, input=(*sample.input[:-1], Message(last.role, text)))


def match_case(source: str, target: str) -> str:
    """``target`` in the case of ``source`` where that is all lower, all upper or begins upper."""
    if all(map(str.islower, source)):
        return target.lower()
    if all(map(str.isupper, source)):
        return target.upper()
    return target.capitalize() if source[:1].isupper() else target


def lowercase() -> Perturbation:
    return Perturbation("lowercase", lambda text, _: text.lower())


def spaces(most: int = _MOST_SPACES) -> Perturbation:
    """Each run of spaces becomes one of 1 to ``most``."""

    def change(text: str, draw: Random) -> str:
        return re.sub(" +", lambda _: " " * draw.randint(1, most), text)

    return Perturbation(f"spaces_{most}", change)


def contractions(file: DataFile, sha256: str = "") -> Perturbation:
    """ "she is" becomes "she's", except at the end of a sentence. ``file``: HELM's
    contraction_expansion_perturbation.py."""
    data = file_bytes(file, sha256)
    expanded = {long: short for short, long in _pairs(literal_in(data, "CONTRACTION_MAP"))}
    pattern = re.compile(rf"\b({'|'.join(expanded)})\b ", re.IGNORECASE)

    def change(text: str, _: Random) -> str:
        def shorter(match: re.Match[str]) -> str:
            long = match[1]
            short = expanded.get(long, expanded.get(long.lower()))
            return match[0] if short is None else match_case(long, short) + " "

        return pattern.sub(shorter, text)

    return Perturbation("contractions", change, _digest(data))


def misspellings(file: DataFile, sha256: str = "", *, share: float = _MISSPELLED) -> Perturbation:
    """A word with common misspellings becomes one of them with the probability ``share``.
    ``file``: HELM's correct_to_misspelling.json, from Wikipedia's list."""
    data = file_bytes(file, sha256)
    wrong = _word_lists(data, "misspellings")
    pattern = re.compile(rf"\b({'|'.join(wrong)})\b")

    def change(text: str, draw: Random) -> str:
        def misspelt(match: re.Match[str]) -> str:
            word = match[1]
            return match_case(word, draw.choice(wrong[word])) if draw.random() < share else word

        return pattern.sub(misspelt, text)

    return Perturbation(f"misspellings_{share:g}", change, _digest(data))


def typos(file: DataFile, sha256: str = "", *, share: float = _MISTYPED) -> Perturbation:
    """A letter becomes one of its neighbours on the keyboard with the probability ``share``.
    ``file``: HELM's typos_perturbation.py."""
    data = file_bytes(file, sha256)
    near = _keys(data, "key_approx")

    def mistyped(letter: str, draw: Random) -> str:
        lower = letter.lower()
        if lower in near and draw.random() < share:
            lower = draw.choice(list(near[lower]))
        return lower if letter == letter.lower() else lower.upper()

    def change(text: str, draw: Random) -> str:
        return "".join(mistyped(letter, draw) for letter in text)

    return Perturbation(f"typos_{share:g}", change, _digest(data))


def dialect(file: DataFile, sha256: str = "") -> Perturbation:
    """Each word of the list becomes one of those that it stands for. ``file``: JSON, words to
    lists of words, such as HELM's SAE_to_AAVE_mapping.json (from Ziems et al., 2022)."""
    data = file_bytes(file, sha256)
    words = _word_lists(data, "dialect")
    pattern = re.compile(rf"[^\w-]({'|'.join(map(re.escape, words))})[^\w-]", re.IGNORECASE)

    def change(text: str, draw: Random) -> str:
        def swapped(match: re.Match[str]) -> str:
            word = match[1]
            draw.random()  # where HELM draws whether, with the probability 1
            return match[0].replace(word, match_case(word, draw.choice(words[word.lower()])))

        return pattern.sub(swapped, text)

    return Perturbation("dialect", change, _digest(data))


def mild_mix(contracted: Perturbation, misspelt: Perturbation) -> Perturbation:
    """Lower case, contractions, misspellings and spaces, in this order."""
    parts = (lowercase(), contracted, misspelt, spaces())

    def change(text: str, draw: Random) -> str:
        for part in parts:
            text = part.change(text, draw)
        return text

    return Perturbation("mild_mix", change, _digest("".join(p.words for p in parts).encode()))


def gender_pronouns(file: DataFile, sha256: str = "") -> Perturbation:
    """Male pronouns become female ones. ``file``: HELM's gender_perturbation.py, whose rows are
    (neutral, female, male); "his" becomes "her", also where "hers" would be right, as in HELM."""
    data = file_bytes(file, sha256)
    rows = literal_in(data, "GENDER_PRONOUN_MAPPINGS")
    if not isinstance(rows, Sequence) or not all(len(row) == 3 for row in rows):
        raise FormatError("GENDER_PRONOUN_MAPPINGS has no rows of three words")

    def change(text: str, _: Random) -> str:
        for _neutral, female, male in rows:

            def swapped(match: re.Match[str], female: str = female) -> str:
                return match[0].replace(match[1], match_case(match[1], female))

            text = re.sub(rf"[^\w]({male})[^\w]", swapped, text, flags=re.IGNORECASE)
        return text

    return Perturbation("gender_pronouns", change, _digest(data))


def literal_in(source: bytes, name: str) -> Any:
    """The value of the constant ``name`` in Python source, which is parsed and not run."""
    for node in _parsed(source, name).body:
        if isinstance(node, ast.AnnAssign):
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if named and node.value is not None:
            try:
                return ast.literal_eval(node.value)
            except ValueError as error:
                raise FormatError(f"{name} is no constant: {error}") from error
    raise FormatError(f"the file has no {name}", hint="give the file from the package crfm-helm")


def _word_lists(data: bytes, what: str) -> dict[str, list[str]]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise FormatError(f"the list of {what} is not JSON: {error}") from error
    if not isinstance(found, dict) or not found:
        raise FormatError(f"the list of {what} is no mapping of words to lists of words")
    if not all(isinstance(each, list) and each for each in found.values()):
        raise FormatError(f"the list of {what} is no mapping of words to lists of words")
    return found


def _keys(source: bytes, name: str) -> dict[str, str]:
    """What Python source assigns to ``name[KEY]``, one literal each; it is parsed and not run."""
    found = {}
    for node in ast.walk(_parsed(source, name)):
        match node:
            case ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id=given), slice=ast.Constant(value=key))],
                value=ast.Constant(value=value),
            ) if given == name:
                found[str(key)] = str(value)
    if not found or not all(found.values()):
        raise FormatError(
            f"the file has no {name}", hint="give the file from the package crfm-helm"
        )
    return found


def _parsed(source: bytes, name: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FormatError(f"the file with {name} is not Python: {error}") from error


def _pairs(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping) or not value:
        raise FormatError("CONTRACTION_MAP is no mapping of words")
    return [(str(short), str(long)) for short, long in value.items()]


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
