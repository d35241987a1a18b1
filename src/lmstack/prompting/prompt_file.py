"""Prompts in files: Markdown with front matter, or YAML.

    ---
    description: Says what a review thinks.
    variables:
      review: {untrusted: true}
    sampling: {temperature: 0, max_tokens: 8}
    choices: [positive, negative]
    ---
    system:
    You read reviews of restaurants.

    user:
    {{review}}

A line ``system:``, ``user:`` or ``assistant:`` begins a turn; a text without any is a turn of the
user. In YAML the turns are ``turns: [{role: user, text: ...}]``. A key that is not known is an
error that names the nearest. A prompt's version is the SHA-256 of all that decides what is asked,
its examples included, however it is spelled in the file; its name and description do not count.
Does not cover folders (`prompt_folder`) nor asking (`asking`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lmstack.core import (
    Config,
    Embedder,
    Grammar,
    InputError,
    ModelInfo,
    SamplingParams,
    allowed,
    check_text,
    shown,
)
from lmstack.prompting.examples import FixedExamples, NearestExamples, PromptExample
from lmstack.prompting.forms import AnswerForm, form_of
from lmstack.prompting.prompt_text import file_beside, read_lines, read_schema, read_values
from lmstack.prompting.template import PromptTemplate, TemplateTurn
from lmstack.prompting.thinking import ChainOfThought
from lmstack.prompting.variables import Variable

__all__ = ["SUFFIXES", "PromptFile", "example_of", "load_prompt"]

SUFFIXES = (".md", ".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROLES = ("system", "user", "assistant")
_SHOTS = 4
_SEARCHES = ("num_beams",)


@dataclass(frozen=True)
class _Settings(Config):
    """What a file says, its turns apart."""

    name: str = ""
    description: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Any] = ()
    examples_file: str = ""
    choose: str = allowed("fixed", str, also=("fixed", "nearest"))
    shots: int | None = allowed(None, int, 1, 256)
    balanced: bool = allowed(True, bool)
    embedder: str = ""
    schema: Mapping[str, Any] | None = None
    schema_file: str = ""
    choices: Sequence[str] = ()
    pattern: str = ""
    thinking: bool | Mapping[str, Any] = False
    samples: int = allowed(1, int, 1, 16)
    turns: Sequence[Any] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("name", "description", "model", "examples_file", "embedder", "schema_file"):
            check_text(name, getattr(self, name))
        check_text("pattern", self.pattern)
        for name, kind, what in (
            ("variables", Mapping, "a mapping"),
            ("sampling", Mapping, "a mapping"),
            ("schema", Mapping | None, "a JSON Schema"),
            ("examples", list | tuple, "a list"),
            ("choices", list | tuple, "a list"),
            ("turns", list | tuple, "a list"),
            ("thinking", Mapping | bool, "true or a mapping"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InputError(f"{name} is {shown(value)}, not {what}", param=name)
        with _within("sampling"):
            SamplingParams.from_mapping(self.sampling)
        self._check_together()

    def _check_together(self) -> None:
        forms = ("schema", "schema_file", "choices", "pattern")
        stated = [name for name in forms if getattr(self, name)]
        nearest_only = self.choose != "nearest" and (self.shots is not None or self.embedder)
        for wrong, problem, hint in (
            (len(stated) > 1, f"{' and '.join(stated)} are both given", "leave one out"),
            (
                bool(self.examples) and bool(self.examples_file),
                "examples and examples_file are both given",
                "leave one out",
            ),
            (
                self.choose == "nearest" and not (self.examples or self.examples_file),
                "there are no examples to choose from",
                "examples: [...]",
            ),
            ("n" in self.sampling, "sampling has an n", "samples: 5 draws so many and votes"),
            (nearest_only, "shots and embedder are of nearest examples", "choose: nearest"),
            (
                self.samples > 1 and SamplingParams.from_mapping(self.sampling).greedy,
                "several samples are drawn, and the temperature is 0",
                "sampling: {temperature: 0.7}",
            ),
        ):
            if wrong:
                raise InputError(problem, hint=hint)


@dataclass(frozen=True)
class PromptFile:
    """A prompt as its file has it. ``samples``: answers to vote over. ``model``, ``embedder``:
    names, empty where the file has none; ``sampling``: what it states of `SamplingParams`."""

    path: Path
    name: str
    description: str
    model: str
    embedder: str
    sampling: Mapping[str, Any]
    samples: int
    shots: int | None
    balanced: bool
    schema: Mapping[str, Any] | None
    choices: tuple[str, ...]
    pattern: str
    examples: tuple[PromptExample, ...]
    base: PromptTemplate

    @cached_property
    def digest(self) -> str:
        content = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    @property
    def version(self) -> str:
        """``name@3f2a91c``."""
        return f"{self.name}@{self.digest.removeprefix('sha256:')[:7]}"

    @property
    def content(self) -> dict[str, Any]:
        """All that decides what is asked."""
        thinking = self.base.thinking
        return {
            "turns": [{"role": turn.role, "text": turn.text} for turn in self.base.turns],
            "variables": {
                name: {k: v for k, v in vars(variable).items() if k != "description"}
                for name, variable in self.base.variables.items()
            },
            "examples": [
                {**each.values, **{k: v for k, v in vars(each).items() if k != "values"}}
                for each in (self.base.examples.examples if self.base.examples else ())
            ],
            "nearest": None if self.shots is None else [self.shots, self.balanced, self.embedder],
            "thinking": None if thinking is None else vars(thinking),
            "model": self.model,
            "sampling": {name: _number(value) for name, value in self.sampling.items()},
            "samples": self.samples,
            "schema": self.schema,
            "choices": list(self.choices),
            "pattern": self.pattern,
        }

    @property
    def form(self) -> AnswerForm[Any] | None:
        """Of the answer; of its last line where the model thinks first."""
        if self.schema is not None:
            return form_of(self.schema)
        if self.choices:
            return form_of(self.choices)
        return form_of(Grammar("regex", self.pattern)) if self.pattern else None

    def template(self, embedder: Embedder | None = None) -> PromptTemplate:
        """``embedder``: of the nearest examples, where the file chooses those."""
        base = replace(self.base, name=self.name, version=self.digest)
        if self.shots is None:
            return base
        if embedder is None:
            raise InputError(
                f"{self.name} shows the examples nearest to what is asked, and has no embedder",
                hint="give it an embedding model",
                param="embedder",
            )
        nearest = NearestExamples(self.examples, embedder, self.shots, balanced=self.balanced)
        return base.with_examples(nearest)

    def sampling_for(self, info: ModelInfo) -> SamplingParams:
        """What the file states, and the model's own defaults for the rest: none beside a
        temperature or a search, with which the file decides how tokens are chosen."""
        decides = any(self.sampling.get(n) is not None for n in ("temperature", *_SEARCHES))
        defaults = {} if decides else dict(info.default_sampling)
        return SamplingParams.from_mapping({**defaults, **self.sampling})


def load_prompt(path: Path | str) -> PromptFile:
    """The prompt in the file ``path``; an error names the file and what in it is wrong."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} is no prompt file", hint=f"prompts are {', '.join(SUFFIXES)}", param="prompt"
        )
    values = read_values(path)
    with _within(str(path)):
        return _prompt(_Settings.from_mapping(values), path)


def example_of(row: Mapping[str, Any], place: str) -> PromptExample:
    """The example in a row of variables with its ``output``, ``reasoning`` and ``label``. An
    output that is not text is JSON."""
    if not isinstance(row, Mapping) or "output" not in row:
        raise InputError(
            f"{place} is {shown(row)}, which has no output",
            hint="an example has a value for each variable, and the output",
            param="examples",
        )
    named = {name: row[name] for name in ("reasoning", "label") if row.get(name) is not None}
    values = {k: v for k, v in row.items() if k not in ("output", "reasoning", "label")}
    output = row["output"]
    if isinstance(output, int | float | bool) or output is None:
        raise InputError(
            f"the output of {place} is {shown(output)}, not text",
            hint="write it in quotes",
            param="examples",
        )
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return PromptExample(values, text, **named)


def _prompt(settings: _Settings, path: Path) -> PromptFile:
    name = settings.name or path.stem
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the prompt has the name {shown(name)}",
            hint="a name has up to 64 letters, digits, dots, - and _",
            param="name",
        )
    examples = tuple(_examples(settings, path))
    schema = settings.schema
    if settings.schema_file:
        schema = read_schema(file_beside(path, settings.schema_file))
    is_nearest = settings.choose == "nearest"
    found = PromptFile(
        path=path,
        name=name,
        description=settings.description,
        model=settings.model,
        embedder=settings.embedder,
        sampling=dict(settings.sampling),
        samples=settings.samples,
        shots=(settings.shots or _SHOTS) if is_nearest else None,
        balanced=settings.balanced,
        schema=schema,
        choices=tuple(settings.choices),
        pattern=settings.pattern,
        examples=examples,
        base=PromptTemplate(
            tuple(_turns(settings.turns)),
            _variables(settings.variables),
            FixedExamples(examples) if examples else None,
            _thinking(settings.thinking),
        ),
    )
    _ = found.form  # which checks it
    return found


def _examples(settings: _Settings, path: Path) -> Iterator[PromptExample]:
    for number, row in enumerate(settings.examples, 1):
        yield example_of(row, f"example {number}")
    if settings.examples_file:
        for place, row in read_lines(file_beside(path, settings.examples_file)):
            yield example_of(row, place)


def _variables(stated: Mapping[str, Any]) -> dict[str, Variable]:
    """``name: integer`` is short for ``name: {type: integer}``, and ``name:`` is text."""
    found = {}
    for name, value in stated.items():
        with _within(f"variables.{name}"):
            full = {"type": value} if isinstance(value, str) else value or {}
            found[str(name)] = Variable.from_mapping(full)
    return found


def _thinking(stated: bool | Mapping[str, Any]) -> ChainOfThought | None:
    if stated is False:
        return None
    with _within("thinking"):
        return ChainOfThought.from_mapping({} if stated is True else stated)


def _turns(turns: Sequence[Any]) -> Iterator[TemplateTurn]:
    for turn in turns:
        if (
            not isinstance(turn, Mapping)
            or turn.keys() != {"role", "text"}
            or turn["role"] not in _ROLES
        ):
            raise InputError(
                f"a turn is {shown(turn)}",
                hint=f"{{role: user, text: ...}}; roles are {', '.join(_ROLES)}",
                param="turns",
            )
        text = turn["text"]
        yield TemplateTurn(turn["role"], text.strip() if isinstance(text, str) else text)


def _number(value: Any) -> Any:
    """0 and 0.0 are the same setting."""
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Errors say where they are."""
    try:
        yield
    except InputError as error:
        message = re.sub(r"^\w+ has no setting", "there is no setting", error.message)
        raise type(error)(f"{place}: {message}", hint=error.hint, param=error.param) from error
