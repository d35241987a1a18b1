"""What a constitutional run wrote so far, item by item, and what follows from it about principles.

Read from the files of its stages alone, so it can be shown while the run goes on, and long after.
Does not cover how it looks (`lmstack.app.page.constitution`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError
from lmstack.core.files import store_error
from lmstack.pipelines.constitution.labels import PairLabel
from lmstack.pipelines.constitution.principles import Constitution, Principle
from lmstack.pipelines.constitution.prompts import Conversation, from_json
from lmstack.pipelines.constitution.stage import Items, read_stage
from lmstack.pipelines.constitution.stages import labels_of

__all__ = ["PrincipleUse", "PromptRecord", "Record", "RevisionRound", "WrittenText", "read_record"]


@dataclass(frozen=True)
class WrittenText:
    """A text of a model; ``problem``: why it is of no use. ``cut``: at its longest."""

    text: str = ""
    cut: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class RevisionRound:
    """``revision``: None where there is none yet, or none was asked for."""

    principle: str
    critique: WrittenText
    revision: WrittenText | None

    @property
    def revised(self) -> str | None:
        """The revision, where there is one that can be used."""
        if self.revision is None or self.revision.problem is not None:
            return None
        return self.revision.text


@dataclass(frozen=True)
class PromptRecord:
    """All that became of one prompt. ``answers``: of the tuned model; ``label``: which is better.
    ``in_sft`` and ``in_dpo``: whether it is among the rows that are trained on."""

    key: str
    prompt: Conversation
    draft: WrittenText
    rounds: tuple[RevisionRound, ...]
    answers: tuple[WrittenText, ...]
    label: PairLabel | None
    in_sft: bool
    in_dpo: bool

    @property
    def changed(self) -> bool:
        """Whether the last revision differs from the draft."""
        last = next((r.revised for r in reversed(self.rounds) if r.revised is not None), None)
        return last is not None and last != self.draft.text

    @property
    def principles(self) -> tuple[str, ...]:
        """Every principle that had a part in it, once."""
        verdicts = self.label.verdicts if self.label is not None else ()
        names = [r.principle for r in self.rounds] + [v.principle for v in verdicts]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class PrincipleUse:
    """``critiques``, of which ``changed`` the answer. ``comparisons``, of which ``decided`` came to
    a verdict; of those ``agreed`` with the label and ``flipped`` with the order. ``position_bias``:
    the mean of `Verdict.position_bias`; ``certainty``: that of how far verdicts are from 1/2, times
    two. None: of no verdict."""

    name: str
    critiques: int
    changed: int
    comparisons: int
    decided: int
    agreed: int
    flipped: int
    position_bias: float | None
    certainty: float | None


@dataclass(frozen=True)
class Record:
    """``recipe``: its settings as JSON. ``made_by``: the header of each stage that is whole.
    ``results``: of the trainings that are done."""

    recipe: Mapping[str, Any]
    constitution: Constitution
    entries: tuple[PromptRecord, ...]
    made_by: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, Mapping[str, Any]]

    def uses(self) -> list[PrincipleUse]:
        """In the order of the constitution."""
        return [self._use(principle.name) for principle in self.constitution.principles]

    def disagreements(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Of every two principles that decided about a pair: how often they preferred different
        answers, and how often both decided. The most frequent first."""
        together, apart = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for entry in self.entries:
            decided = [
                (v.principle, v.probability > 0.5)
                for v in (entry.label.verdicts if entry.label is not None else ())
                if v.probability is not None and v.probability != 0.5
            ]
            for (one, prefers), (other, its) in combinations(sorted(decided), 2):
                together[one, other] += 1
                apart[one, other] += prefers != its
        names = sorted(together, key=lambda pair: (-apart[pair], pair))
        return {pair: (apart[pair], together[pair]) for pair in names}

    def _use(self, name: str) -> PrincipleUse:
        rounds = [r for entry in self.entries for r in entry.rounds if r.principle == name]
        found = [
            (verdict, entry.label)
            for entry in self.entries
            if entry.label is not None
            for verdict in entry.label.verdicts
            if verdict.principle == name
        ]
        decided = [(v, p, label) for v, label in found if (p := v.probability) is not None]
        agreed = [
            label.chosen is not None and p != 0.5 and (p < 0.5) == label.chosen
            for _, p, label in decided
        ]
        return PrincipleUse(
            name,
            critiques=len(rounds),
            changed=sum(self._changes(name)),
            comparisons=len(found),
            decided=len(decided),
            agreed=sum(agreed),
            flipped=sum(verdict.flips for verdict, _, _ in decided),
            position_bias=_mean([v.position_bias for v, _, _ in decided]),
            certainty=_mean([2 * abs(p - 0.5) for _, p, _ in decided]),
        )

    def _changes(self, name: str) -> Iterator[bool]:
        for entry in self.entries:
            before = entry.draft.text
            for each in entry.rounds:
                if each.revised is not None and each.principle == name:
                    yield each.revised != before
                before = before if each.revised is None else each.revised


def read_record(folder: Path) -> Record:
    """The record of the run in ``folder``, as far as it is. `NotFoundError` where there is none."""
    values = _json(folder / "recipe.json")
    if values is None:
        raise NotFoundError(
            f"there is no constitutional run in {folder}",
            hint="give the folder that `lmstack train recipes/constitutional.yaml` names",
        )
    principles = tuple(map(Principle.from_mapping, values["constitution"]["principles"]))
    stages = {name: read_stage(folder / f"{name}.jsonl") or {} for name in _stages(folder)}
    results = {n: found for n in ("sft", "dpo") if (found := _json(folder / f"{n}.json"))}
    used = {name: _keys(folder / f"{name}.jsonl") for name in ("sft", "preferences")}
    labels = labels_of(stages.get("labels", {}))
    entries = (
        PromptRecord(
            key,
            from_json(draft["prompt"]),
            _written(draft),
            tuple(_rounds(key, stages)),
            _answers(stages.get("answers", {}).get(key)),
            labels.get(key),
            key in used["sft"],
            key in used["preferences"],
        )
        for key, draft in stages.get("drafts", {}).items()
    )
    return Record(
        values["recipe"],
        Constitution(principles, values["constitution"]["title"]),
        tuple(entries),
        {name: _header(folder / f"{name}.jsonl") for name in stages},
        results,
    )


def _stages(folder: Path) -> list[str]:
    """Those that are whole, in the order in which they were made."""
    found = ["drafts"]
    for turn in count(1):
        if not (folder / f"critiques-{turn}.jsonl").exists():
            break
        found += [f"critiques-{turn}", f"revisions-{turn}"]
    found += ["answers", "labels"]
    return [name for name in found if (folder / f"{name}.jsonl").exists()]


def _rounds(key: str, stages: Mapping[str, Items]) -> Iterator[RevisionRound]:
    for turn in count(1):
        critique = stages.get(f"critiques-{turn}", {}).get(key)
        if critique is None:
            return
        revision = stages.get(f"revisions-{turn}", {}).get(key)
        yield RevisionRound(
            critique["principle"],
            _written(critique),
            None if revision is None else _written(revision),
        )


def _written(item: Mapping[str, Any]) -> WrittenText:
    return WrittenText(item.get("text", ""), item.get("finish") == "length", item.get("problem"))


def _answers(item: Mapping[str, Any] | None) -> tuple[WrittenText, ...]:
    if item is None:
        return ()
    if "problem" in item:
        return (WrittenText(problem=item["problem"]),)
    finishes = zip(item["texts"], item["finishes"], strict=True)
    return tuple(WrittenText(text, finish == "length") for text, finish in finishes)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except ValueError as error:
        raise FormatError(f"{path} is damaged: {error}", hint="start the run anew") from error
    return values if isinstance(values, dict) else None


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found: dict[str, Any] = json.loads(file.readline())
        return found


def _keys(path: Path) -> frozenset[str]:
    """Of the rows of a set to train on; none where it is not made yet."""
    if not path.exists():
        return frozenset()
    with path.open("rb") as file:
        return frozenset(json.loads(line)["key"] for line in file)


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
