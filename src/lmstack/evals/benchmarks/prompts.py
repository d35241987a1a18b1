"""Prompts made of a header, worked examples (shots) and a question, by templates.

A template is text with fields in braces, as `str.format` has them: ``question`` (the sample's
input), ``choices`` (``{choices[0]}``), ``target`` (its first target), ``letter`` (of its gold
choice) and whatever its metadata holds. All that decides a prompt is in `FewShot.protocol`, the
hash of the shots included, so that a score never outlives its prompt. Not covered: asking a model
(`solvers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lmstack.core import FormatError, InputError, Message, shown
from lmstack.evals.benchmarks.data_files import DataFile, text_field, yaml_file
from lmstack.evals.conversation import conversation
from lmstack.evals.task import Dataset, Sample

__all__ = ["GROUP", "LETTERS", "SHOTS", "FewShot", "fields_of", "yaml_shots"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Metadata of a sample: the places of its shots among those of its group, and the group's name.
SHOTS, GROUP = "shots", "group"


def fields_of(sample: Sample) -> dict[str, Any]:
    """What templates may name, of one sample."""
    found: dict[str, Any] = {
        **sample.metadata,
        "question": sample.text,
        "choices": sample.choices,
    }
    if sample.targets:
        found["target"] = sample.targets[0]
    if sample.gold:
        found["letter"] = LETTERS[sample.gold[0]]
    return found


@dataclass(frozen=True)
class FewShot:
    """``header`` + (``item`` + ``delimiter`` + ``target`` + ``between``) for each shot + ``item``.

    ``shots``: by group of samples, or under "" those of all. A sample takes the first ``count`` of
    its group, or those whose places its metadata lists under "shots". ``ending``: what the
    question ends with, which is asked for and belongs to each shot too. ``source``: whose prompt
    this is."""

    item: str
    target: str = "{target}"
    header: str = ""
    delimiter: str = " "
    between: str = "\n\n"
    count: int = 0
    shots: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict, hash=False)
    source: str = ""

    def __post_init__(self) -> None:
        for group, shots in self.shots.items():
            if len(shots) < self.count:
                raise InputError(
                    f"{len(shots)} worked examples for {self.count} shots"
                    + (f", of {group}" if group else ""),
                    hint="give more examples, or ask for fewer shots",
                    param="shots",
                )

    @cached_property
    def protocol(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "header": self.header,
            "item": self.item,
            "num_shots": self.count,
            "source": self.source,
        }
        if self.count:
            found |= {
                "target": self.target,
                "delimiter": self.delimiter,
                "between": self.between,
                "shots": self._digest(),
                "when_too_long": "shots are left out from the last on",
            }
        return found

    def _digest(self) -> str:
        shots = [
            replace(shot, id=f"{group}/{n}/{shot.id}")
            for group in sorted(self.shots)
            for n, shot in enumerate(self.shots[group])
        ]
        return Dataset("shots", tuple(shots), "").digest

    def text(self, sample: Sample, count: int | None = None) -> str:
        """The prompt for ``sample`` with at most ``count`` shots."""
        return self._header(sample) + self._asked(sample, self._kept(sample, count))

    def messages(
        self, sample: Sample, count: int | None = None, *, shots_as_turns: bool = False
    ) -> tuple[Message, ...]:
        """`text` as a conversation: the header is the system's turn (`conversation`)."""
        header, kept = self._header(sample), self._kept(sample, count)
        if not shots_as_turns:
            return conversation(header, self._asked(sample, kept))
        shots = [self._pair(shot) for shot in kept]
        return conversation(header, "", shots, self._asked(sample, ()))

    def _header(self, sample: Sample) -> str:
        return _filled(self.header, fields_of(sample), sample)

    def _asked(self, sample: Sample, shots: Sequence[Sample]) -> str:
        before = "".join(self._shot(shot) for shot in shots)
        return before + _filled(self.item, fields_of(sample), sample)

    def _kept(self, sample: Sample, count: int | None) -> Sequence[Sample]:
        return self.shots_of(sample)[: self.count if count is None else count]

    def shots_of(self, sample: Sample) -> Sequence[Sample]:
        if not self.count:
            return ()
        group = str(sample.metadata.get(GROUP, ""))
        shots = self.shots.get(group, self.shots.get(""))
        if shots is None:
            raise InputError(
                f"sample {sample.id} is of the group {group}, which has no worked examples",
                hint=f"there are those of {', '.join(sorted(self.shots)) or 'none'}",
                param="shots",
            )
        places = sample.metadata.get(SHOTS)
        if places is None:
            return shots[: self.count]
        return [shots[place] for place in places[: self.count]]

    def _shot(self, shot: Sample) -> str:
        item, target = self._pair(shot)
        return item + self.delimiter + target + self.between

    def _pair(self, shot: Sample) -> tuple[str, str]:
        fields = fields_of(shot)
        return _filled(self.item, fields, shot), _filled(self.target, fields, shot)


def _filled(template: str, fields: Mapping[str, Any], sample: Sample) -> str:
    try:
        return template.format_map(fields)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"sample {sample.id} does not fit the prompt {shown(template)}: {error}",
            hint=f"it has {', '.join(sorted(fields))}, and {len(sample.choices)} choices",
            param="prompt",
        ) from error


def yaml_shots(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """The worked examples in a task file of lm-evaluation-harness (``fewshot_config: samples:``):
    question or input, and target."""
    config = yaml_file(file, sha256).get("fewshot_config")
    rows = config.get("samples") if isinstance(config, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise FormatError(
            "the task file has no samples under fewshot_config",
            hint="give a task file of lm-evaluation-harness with worked examples",
        )
    found = []
    for number, row in enumerate(rows):
        where = f"worked example {number + 1}"
        question = text_field(row, "input" if "input" in row else "question", where)
        worked: dict[str, Any] = {"worked": text_field(row, "target", where)}
        found.append(Sample(f"shot/{number}", question, metadata=worked))
    return tuple(found)
