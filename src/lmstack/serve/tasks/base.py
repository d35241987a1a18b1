"""What the tasks share: options that check themselves, one input or many, streaming.

    task = Ner(model, aggregation="max")
    task("one text")             -> its result
    task(["several", "texts"])   -> a list of results, in order
    task.stream(lines)           -> results one by one, a chunk computed at a time

Subclasses say how one input is read (`read`) and what many of them give (`run`); those with an
encoder are `EncoderTask`s. Does not cover which class a name stands for (`catalog`).
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

from lmstack.core import Config, InputError, check_text, shown
from lmstack.registry import LoadedModel
from lmstack.serve.tasks.encoder import TaskEncoder
from lmstack.serve.tasks.results import TaskOutput

__all__ = ["EncoderTask", "ModelTask", "text_of"]

Item = TypeVar("Item")
O = TypeVar("O", bound=Config)  # noqa: E741
R = TypeVar("R", bound=TaskOutput)

# Inputs of a stream that are computed together: enough to sort by length, few enough to show
# results soon and to lose little on Ctrl-C.
CHUNK = 32


class ModelTask(abc.ABC, Generic[Item, O, R]):
    """One task with one model. ``options`` given here are the defaults of every call."""

    name: ClassVar[str]
    options_type: ClassVar[type[Config]]

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        self.loaded = loaded
        self.options: O = self.with_options(None, options)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """The result of one input, or a list of results for several."""
        chosen = self.with_options(self.options, options)
        if self.is_one(inputs):
            return self.run([self.read(inputs, "the input", chosen)], chosen)[0]
        if not isinstance(inputs, Iterable):
            raise InputError(f"the input is {shown(inputs)}", hint="a text or a list of texts")
        items = [self.read(each, f"input {i}", chosen) for i, each in enumerate(inputs)]
        return self.run(items, chosen) if items else []

    def stream(self, inputs: Iterable[Any], *, chunk: int = CHUNK, **options: Any) -> Iterator[R]:
        """Results in order while ``inputs`` are still being read, ``chunk`` at a time."""
        chosen = self.with_options(self.options, options)
        numbered = enumerate(inputs)
        while batch := list(itertools.islice(numbered, chunk)):
            yield from self.run(
                [self.read(each, f"input {i}", chosen) for i, each in batch], chosen
            )

    @abc.abstractmethod
    def run(self, items: Sequence[Item], options: O) -> list[R]:
        """A result for each item, in order."""

    def read(self, value: Any, name: str, _: O, /) -> Item:
        """One input as the task wants it; `InputError` names it. Unless a task says otherwise a
        text, or a mapping with one."""
        return cast(Item, text_of(value, name, "text"))

    def is_one(self, inputs: Any) -> bool:
        """Whether ``inputs`` is a single input."""
        return isinstance(inputs, str | Mapping)

    def close(self) -> None:
        """Free what the task holds beside its model."""

    def distrust(self) -> None:
        """Read control tokens spelled in texts as text: somebody else wrote them."""

    def with_options(self, base: Any, changes: Mapping[str, Any]) -> Any:
        """``base`` (None: the defaults) with ``changes``, checked; a typo names the nearest."""
        fields = () if base is None else dataclasses.fields(base)
        kept = {each.name: getattr(base, each.name) for each in fields if each.init}
        try:
            return self.options_type.from_mapping({**kept, **changes})
        except InputError as error:
            # People know the task, not the class that holds its options.
            internal = f"{self.options_type.__name__} has no setting"
            message = error.message.replace(internal, f"{self.name} has no option")
            raise InputError(message, hint=error.hint, param=error.param) from None


class EncoderTask(ModelTask[Item, O, R]):
    """A task on what an encoder makes of texts."""

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.encoder = TaskEncoder(loaded)

    def distrust(self) -> None:
        self.encoder.special = False


def text_of(value: Any, name: str, *keys: str) -> str:
    """``value`` if it is text, or the text of a mapping under the first of ``keys``."""
    if isinstance(value, Mapping) and keys:
        unknown = [key for key in value if key not in keys]
        if unknown or keys[0] not in value:
            what = f"has the key {shown(unknown[0])}" if unknown else f"lacks {keys[0]!r}"
            raise InputError(f"{name} {what}", hint=f"keys: {', '.join(keys)}", param=name)
        value = value[keys[0]]
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}, not a text", hint="give a str", param=name)
    check_text(name, value)
    return value
