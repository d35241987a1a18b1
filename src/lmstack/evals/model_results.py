"""Results of evaluations in the card of a model: a line for each, beside what else was measured.

    record_result    after a run, into ``evaluation["tasks"]`` of the card; other keys stay
    results_of       what a card has, for people

A result belongs to a model where its digest begins with that of the model's files; the form of the
weights follows it. The same task asked the same way again takes the place of the former line; a
run of some of the samples never that of a run of all. Not covered: results as files, which hold
every sample, and verdicts of a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import NotFoundError
from lmstack.evals.json_forms import NUMBER, Kinds, digest_of
from lmstack.evals.results import TaskResult

if TYPE_CHECKING:
    from lmstack.registry import Card, ModelFolder, Store

__all__ = ["TASKS", "CardResult", "record_result", "results_in", "results_of"]

TASKS = "tasks"
_MAYBE = (*NUMBER, type(None))
_KINDS: Kinds = {
    **dict.fromkeys(("task", "metric", "better", "data", "protocol", "result", "model"), str),
    **dict.fromkeys(("version", "samples", "of", "failed", "decimals"), int),
    **dict.fromkeys(("value", "low", "high"), _MAYBE),
    "is_share": bool,
    "date": str,
}


@dataclass(frozen=True)
class CardResult:
    """``value`` with its interval ``low`` to ``high``, null where there is none, of the first
    ``metric``. ``samples``: that were run, ``of`` so many. ``data``, ``protocol``, ``result``,
    ``model``: digests. ``date``: UTC, ISO 8601."""

    task: str
    version: int
    metric: str
    better: str
    is_share: bool
    decimals: int
    value: float | None
    low: float | None
    high: float | None
    samples: int
    of: int
    failed: int
    data: str
    protocol: str
    result: str
    model: str
    date: str

    @classmethod
    def of_result(cls, result: TaskResult) -> CardResult:
        """``result`` has a metric."""
        metric = result.metrics[0]
        return cls(
            task=result.task,
            version=result.version,
            metric=metric.name,
            better=metric.better,
            is_share=metric.is_share,
            decimals=metric.decimals,
            **{k: v for k, v in result.figures()[metric.name].to_json().items() if k != "p"},
            samples=len(result.samples),
            of=result.dataset_samples,
            failed=len(result.failures),
            data=result.dataset_digest,
            protocol=digest_of(dict(result.protocol), f"the protocol of {result.task}"),
            result=result.digest,
            model=result.subject_digest,
            date=result.date,
        )

    @classmethod
    def from_json(cls, value: Any) -> CardResult | None:
        """None where ``value`` is not what `to_json` gives: a card may be edited by hand."""
        if not isinstance(value, Mapping) or not _KINDS.keys() <= value.keys():
            return None
        for name, kind in _KINDS.items():
            is_truth = isinstance(value[name], bool) and kind is not bool
            if is_truth or not isinstance(value[name], kind):
                return None
        return cls(**{each.name: value[each.name] for each in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """``partial``: whether some samples were not run."""
        return {**vars(self), "partial": self.is_partial}

    @property
    def is_partial(self) -> bool:
        return self.samples < self.of

    @property
    def asked(self) -> tuple[str, int, str, str, str, str, int]:
        """What is the same of two results of which the later counts."""
        same = (self.task, self.version, self.metric, self.model, self.data, self.protocol)
        return (*same, self.samples)

    @property
    def form(self) -> str:
        """Of the weights, "" for that of the model's files."""
        return self.model.partition("+")[2]

    @property
    def figure(self) -> str:
        """``41.0 %``."""
        return "-" if self.value is None else self._number(self.value)

    @property
    def interval(self) -> str:
        """``32.0 to 50.7 %``, "" where there is none."""
        if self.low is None or self.high is None:
            return ""
        low = self._number(self.low).removesuffix(" %")
        return f"{low} to {self._number(self.high)}"

    def _number(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.{self.decimals}f}"

    @property
    def counted(self) -> str:
        """How many samples, and what became of them."""
        count = f"{self.samples:,} samples"
        if self.is_partial:
            count = f"the first {self.samples:,} of {self.of:,} samples"
        return f"{count}, {self.failed:,} failed" if self.failed else count


def results_of(card: Card) -> list[CardResult]:
    """By task; entries that are no results are left out."""
    return results_in(card.evaluation)


def results_in(evaluation: Mapping[str, Any]) -> list[CardResult]:
    """As `results_of`, of what a card says was measured."""
    stated = evaluation.get(TASKS)
    found = map(CardResult.from_json, stated if isinstance(stated, list) else ())
    return sorted(filter(None, found), key=lambda each: (each.task, each.model, each.date))


def record_result(reference: str, result: TaskResult) -> ModelFolder | None:
    """The model ``reference`` with ``result`` in its card. None where there is no such card: the
    model is in no store, or not the one that was evaluated. `StoreError` where it
    cannot be written."""
    from lmstack.registry import Store

    if not result.metrics:
        return None
    store = Store()
    adapter = store.adapter(reference)
    if adapter is not None:
        return _record_of_adapter(store, adapter, result)
    try:
        folder = store.resolve(reference)
    except NotFoundError:
        return None
    is_ours = result.subject_digest.partition("+")[0] == folder.digest
    if folder.path.parent != store.folder or not is_ours:
        return None
    entry = CardResult.of_result(result)
    return store.update_evaluation(folder, lambda found: _with(found, entry))


def _record_of_adapter(store: Store, path: Path, result: TaskResult) -> ModelFolder | None:
    """In the card of an adapter in the store, whose digest is a part of the subject's."""
    from lmstack.model.lora.folder import adapter_digest
    from lmstack.registry import ModelFolder

    if path.parent != store.folder or adapter_digest(path) not in result.subject_digest.split("+"):
        return None
    entry = CardResult.of_result(result)
    return store.update_evaluation(ModelFolder.read(path), lambda found: _with(found, entry))


def _with(folder: ModelFolder, entry: CardResult) -> Mapping[str, Any]:
    """What was measured of the model in ``folder``, and ``entry``."""
    kept = [each for each in results_of(folder.card) if each.asked != entry.asked]
    tasks = sorted([*kept, entry], key=lambda each: (each.task, each.model, each.date))
    return {**folder.card.evaluation, TASKS: [each.to_json() for each in tasks]}
