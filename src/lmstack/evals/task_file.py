"""A task of one's own: a JSON Lines file and about ten lines of YAML.

    name: capitals
    data: capitals.jsonl              # beside this file
    input: "Q: What is the capital of {{country}}?\\nA:"
    targets: capital                  # the field with the right answer, or a list of them
    cluster: continent                # rows that share it are not independent
    solver: generate                  # or multiple_choice (choices, gold), or likelihood
    sampling: {temperature: 0, max_tokens: 16}
    scorer: {name: exact_match, ignore_case: true}   # or a Python file: {file: score.py}
    metric: exact_match               # the first of the scorer's, unless said
    split: {part: test, share: 0.5}   # by a hash of the row; the rest is the part ``tune``

For the perplexity of a text file ``data`` names it (.txt), the solver is likelihood and the scorer
perplexity; ``separator`` parts it into samples, and ``windows`` (`metrics.windows.Windows`) says
how a long text is cut. ``choices`` are a field, or the same for each row: [spam, ham].
``form: {schema: ...}``, ``{choices: [...]}`` or ``{pattern: ...}`` holds what is generated to a
form. A task for an index or an agent says so instead of a solver
(`system_tasks`). Unknown keys name the nearest. Rows that cannot be used are an error that names
file and line: none is left out silently. Not covered: scorers, and their parameters (`metrics`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lmstack.core import (
    Config,
    FormatError,
    InputError,
    Message,
    Role,
    SamplingParams,
    allowed,
    check_text,
    nearest,
    shown,
)
from lmstack.core.json_text import parse_json
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.conversation import Shots
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics import MetricScorer
from lmstack.evals.metrics import make_scorer as scorer_of
from lmstack.evals.metrics.windows import Windows
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.system_tasks import (
    SYSTEMS,
    AskIndex,
    RunAgent,
    applicable,
    question_metadata,
    tools_allowed,
    with_usual_settings,
)
from lmstack.evals.task import Dataset, Metric, Sample, Solver, Task
from lmstack.evals.task_values import (
    TEXT_SUFFIX,
    InputTemplate,
    constant_choices,
    form_grammar,
    numbered_rows,
    read_text,
    scorer_beside,
    value_text,
)

__all__ = ["ScorerFactory", "load_dataset", "load_task"]

_SHOWN = 5
SOLVERS = ("generate", "multiple_choice", "likelihood", *SYSTEMS)
PARTS = ("test", "tune")


class ScorerFactory(Protocol):
    """``wanted``: what the file has: a name, a mapping with it and parameters, or a list of these.
    ``samples``: of the task."""

    def __call__(self, wanted: Any, *, samples: Sequence[Sample]) -> MetricScorer: ...


# Roles and texts; plain text has no role.
Turns = tuple[tuple[Role | None, InputTemplate], ...]


@dataclass(frozen=True)
class _Split(Config):
    """``share``: of the rows (of the clusters, where there are some) that are the part ``test``."""

    part: str = allowed("test", str, also=PARTS)
    share: float = allowed(0.5, float, 0, 1)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)

    def has(self, sample: Sample) -> bool:
        """Whether ``sample`` is of the part, which follows from what it asks, not from its id."""
        turns = (
            [sample.input] if isinstance(sample.input, str) else [m.content for m in sample.input]
        )
        asked = sample.cluster or "\0".join(turns)
        digest = hashlib.sha256(f"{self.seed}\0{asked}".encode()).digest()
        is_test = int.from_bytes(digest[:8], "big") < self.share * 2**64
        return is_test == (self.part == "test")


@dataclass(frozen=True)
class _ShotSettings(Config):
    """``data``: a file of its own, of rows of the same form, whose split and limit do not count.
    ``seed``: None shows the first ones."""

    data: str
    count: int = allowed(5, int, 1, 1024)
    seed: int | None = allowed(None, int, 0, (1 << 63) - 1)
    before_answer: str = " "
    after_answer: str = "\n\n"


@dataclass(frozen=True)
class _Vote(Config):
    samples: int = allowed(5, int, 2, 256)
    pattern: str = r".+"


@dataclass(frozen=True)
class _Settings(Config):
    """What the file says."""

    name: str
    data: str
    scorer: Any
    input: str | tuple[Mapping[str, str], ...] = "{{input}}"
    id: str = ""
    targets: str = ""
    choices: str | tuple[str, ...] = ""
    gold: str = ""
    cluster: str = ""
    about: str = ""
    version: int = allowed(1, int, 1, 1 << 31)
    solver: str = allowed("generate", str, also=SOLVERS)
    raw: bool = allowed(False, bool)
    instruction: str = ""
    cue: str = ""
    before: str | None = None
    letters: bool = allowed(False, bool)
    sampling: Mapping[str, Any] | None = None
    seed: int = allowed(0, int, 0, (1 << 63) - 1)
    shots: Mapping[str, Any] | None = None
    vote: Mapping[str, Any] | None = None
    windows: Mapping[str, Any] | None = None
    form: Mapping[str, Any] | None = None
    separator: str = ""
    metric: str = ""
    faithfulness: bool = allowed(True, bool)
    split: Mapping[str, Any] | None = None
    limit: int | None = allowed(None, int, 1, 1 << 40)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.choices, list | tuple):
            object.__setattr__(self, "choices", constant_choices(self.choices))
        else:
            check_text("choices", self.choices)
        texts = ("name", "data", "id", "targets", "gold", "cluster", "about")
        for name in (*texts, "instruction", "cue", "metric", "separator"):
            check_text(name, getattr(self, name))
        check_text("before", self.before or "")
        for name in ("sampling", "shots", "vote", "split", "windows", "form"):
            if not isinstance(getattr(self, name), Mapping | None):
                message = f"{name} is {shown(getattr(self, name))}, not a mapping of settings"
                raise InputError(message, param=name)
        if not self.name or not self.data:
            raise InputError("a task needs a name and data", param="name")
        generates = self.solver == "generate"
        for given, name, of in (
            (self.sampling is not None and not generates, "sampling", "generate"),
            (self.raw and not generates, "raw", "generate"),
            (bool(self.cue) and not generates, "cue", "generate"),
            (self.vote is not None and not generates, "vote", "generate"),
            (self.form is not None and not generates, "form", "generate"),
            (self.before is not None and generates, "before", "multiple_choice and likelihood"),
            (self.solver == "multiple_choice" and not self.choices, "choices", ""),
            (self.letters and self.solver != "multiple_choice", "letters", "multiple_choice"),
            (self.solver == "likelihood" and self.shots is not None, "shots", "the other solvers"),
            (self.windows is not None and self.solver != "likelihood", "windows", "likelihood"),
            (not self.faithfulness and self.solver != "index", "faithfulness", "index"),
            *(
                (self.solver in SYSTEMS and bool(getattr(self, name)), name, "a model")
                for name in ("instruction", "before", "choices", "gold", "shots")
            ),
        ):
            if given:
                problem = (
                    f"is of the solver {of}" if of else f"is needed by the solver {self.solver}"
                )
                raise InputError(f"{name} {problem}", hint=f"set or leave out {name}", param=name)
        if self.separator and not self.data.endswith(TEXT_SUFFIX):
            raise InputError(
                f"separator parts a text file, and {self.data} is none",
                hint=f"name a file that ends with {TEXT_SUFFIX}, or leave separator out",
                param="separator",
            )


@dataclass(frozen=True)
class _Form:
    """How a row becomes a sample."""

    settings: _Settings
    turns: Turns = ()

    def sample(self, row: Mapping[str, Any], number: int) -> Sample:
        """Of the row on line ``number``."""
        s = self.settings
        first_role, first = self.turns[0]
        asked: str | tuple[Message, ...] = first.render(row)
        if first_role is not None:
            turns = ((role, each) for role, each in self.turns if role is not None)
            asked = tuple(Message(role, each.render(row)) for role, each in turns)
        choices = s.choices
        if isinstance(choices, str):
            choices = _texts(row, choices) if choices else ()
        is_question = s.solver == "index"
        found = Sample(
            id=value_text(row, s.id) if s.id else str(number),
            input=asked,
            targets=_texts(row, s.targets) if s.targets and not is_question else (),
            choices=choices,
            gold=_gold(row, s.gold, choices) if s.gold else (),
            cluster=value_text(row, s.cluster) if s.cluster else "",
            metadata=question_metadata(row, s.targets) if is_question else row,
        )
        if s.solver == "agent":
            tools_allowed(found)
        return found


def load_task(path: str | Path, make_scorer: ScorerFactory = scorer_of) -> Task:
    """The task in the YAML file ``path``. ``make_scorer``: of what it has under ``scorer``; another
    one where a scorer needs a model.
    `NotFoundError`, `FormatError` or `InputError`, with the file in each message."""
    file = Path(path)
    settings, form, dataset = _read(file)
    try:
        scorer = make_scorer(scorer_beside(settings.scorer, file.parent), samples=dataset.samples)
        return Task(
            name=settings.name,
            dataset=dataset,
            solver=_solver(settings, form, file.parent),
            scorer=scorer,
            metrics=_metrics(settings, scorer, list(dataset.samples)),
            version=settings.version,
            about=settings.about,
        )
    except InputError as error:
        raise _within(file, error) from error


def load_dataset(path: str | Path) -> Dataset:
    """Of the task in the YAML file ``path``, whose scorer is not made: it may need a model."""
    return _read(Path(path))[2]


def _read(file: Path) -> tuple[_Settings, _Form, Dataset]:
    values = parse_yaml(read_text(file, "a task"), str(file))
    if not isinstance(values, dict):
        raise FormatError(
            f"{file} holds {shown(values)}, not a task", hint="key: value, by line; see name, data"
        )
    try:
        settings = _Settings.from_mapping(with_usual_settings(values))
        form = _Form(settings, _turns(settings.input))
        split = None if settings.split is None else _Split.from_mapping(settings.split)
    except InputError as error:
        raise _within(file, error) from error
    samples = [
        each
        for each in _samples(file.parent / settings.data, form)
        if split is None or split.has(each)
    ]
    if not samples:
        raise InputError(f"{file}: no row of {settings.data} is in the split", param="split")
    source = f"{settings.data}" + ("" if split is None else f", part {split.part}")
    name = Path(settings.data).stem
    return settings, form, Dataset(name, tuple(samples[: settings.limit]), source)


def _within(file: Path, error: InputError) -> InputError:
    message = error.message if error.message.startswith(str(file)) else f"{file}: {error.message}"
    return InputError(message, hint=error.hint, param=error.param)


def _turns(value: Any) -> Turns:
    if isinstance(value, str):
        return ((None, InputTemplate(value)),)
    if not isinstance(value, list | tuple) or not value:
        raise InputError(
            f"input is {shown(value)}, not text or turns",
            hint="write text, or turns: [{role: user, text: ...}]",
            param="input",
        )
    found = []
    for turn in value:
        if not isinstance(turn, Mapping) or set(turn) != {"role", "text"}:
            raise InputError(
                f"a turn of input is {shown(turn)}",
                hint="write {role: user, text: ...}",
                param="input",
            )
        role = Message(turn["role"], "").role  # which knows the roles
        found.append((role, InputTemplate(turn["text"])))
    return tuple(found)


def _samples(path: Path, form: _Form) -> list[Sample]:
    """Of all rows of ``path``; `InputError` that names those that cannot be used."""
    found: list[Sample] = []
    lines: dict[str, int] = {}
    problems = []
    for number, line in numbered_rows(path, form.settings.separator):
        try:
            row = {"input": line} if path.suffix == TEXT_SUFFIX else parse_json(line)
            if not isinstance(row, dict):
                raise InputError(f"it is {shown(row)}, not an object")
            sample = form.sample(row, number)
            if sample.id in lines:
                raise InputError(f"its id {shown(sample.id)} is that of line {lines[sample.id]}")
            lines[sample.id] = number
            found.append(sample)
        except InputError as error:
            hint = f" ({error.hint})" if error.hint else ""
            problems.append(f"{path}:{number}: {error.message}{hint}")
        except ValueError as error:
            problems.append(f"{path}:{number}: not JSON: {error}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"{len(problems)} of {len(problems) + len(found)} rows cannot be used: "
            + "; ".join(problems[:_SHOWN])
            + more,
            hint="correct these rows, or take them out",
            param="data",
        )
    if not found:
        raise InputError(f"{path} has no rows", hint="write one JSON object a line", param="data")
    return found


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A field that is text, or a list of texts. An object is its JSON."""
    value = row.get(name)
    if isinstance(value, list) and not value:
        raise InputError(f"the field {name} is an empty list", param=name)
    found = value if isinstance(value, list) else [value]
    if name not in row:
        value_text(row, name)  # which says so
    return tuple(
        json.dumps(each, ensure_ascii=False)
        if isinstance(each, Mapping)
        else value_text({name: each}, name)
        for each in found
    )


def _gold(row: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> tuple[int, ...]:
    """A place counted from 0, one of the choices' texts, or a list of either."""
    if name not in row:
        value_text(row, name)  # which says so
    value = row[name]
    found = []
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and choices.count(each) == 1:
            found.append(choices.index(each))
        elif isinstance(each, int) and not isinstance(each, bool):
            found.append(each)
        else:
            raise InputError(
                f"the field {name} is {shown(each)}, which is no choice",
                hint="give the place of the right choice, counted from 0, or its text",
                param=name,
            )
    return tuple(found)


def _solver(settings: _Settings, form: _Form, folder: Path) -> Solver:
    shots = None
    if settings.shots is not None:
        chosen = _ShotSettings.from_mapping(settings.shots)
        shots = _shots(chosen, _samples(folder / chosen.data, form))
    if settings.solver == "multiple_choice":
        before = " " if settings.before is None else settings.before
        return MultipleChoice(settings.instruction, shots, before, settings.letters)
    if settings.solver == "likelihood":
        windows = Windows.from_mapping(settings.windows or {})
        return TargetLikelihood(settings.before or "", windows)
    if settings.solver in SYSTEMS:
        return AskIndex(settings.faithfulness) if settings.solver == "index" else RunAgent()
    given = settings.sampling if settings.sampling is not None else {}
    sampling = SamplingParams.from_mapping({"temperature": 0.0, "max_tokens": 256, **given})
    generate = Generate(
        sampling,
        settings.raw,
        settings.instruction,
        shots,
        settings.cue,
        settings.seed,
        grammar=form_grammar(settings.form),
    )
    if settings.vote is None:
        return generate
    vote = _Vote.from_mapping(settings.vote)
    return SelfConsistency(generate, vote.samples, vote.pattern)


def _shots(chosen: _ShotSettings, pool: list[Sample]) -> Shots:
    around = {"before_answer": chosen.before_answer, "after_answer": chosen.after_answer}
    if chosen.seed is None:
        return Shots.first(pool, chosen.count, **around)
    return Shots.drawn(pool, chosen.count, chosen.seed, **around)


def _metrics(
    settings: _Settings, scorer: MetricScorer, samples: list[Sample]
) -> tuple[Metric, ...]:
    """The scorer's, as far as ``samples`` can have them, the one that the file names first."""
    able = applicable(scorer, samples, faithfulness=settings.faithfulness)
    found = {metric.name: metric for metric in able}
    if not settings.metric:
        return tuple(found.values())
    if settings.metric not in found:
        guess = nearest(settings.metric, found)
        hint = f"did you mean {guess!r}?" if guess else f"it has {', '.join(found)}"
        raise InputError(
            f"the scorer has no metric {shown(settings.metric)}", hint=hint, param="metric"
        )
    first = found.pop(settings.metric)
    return (first, *found.values())
