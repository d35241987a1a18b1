"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lmstack.app import wiring
from lmstack.app.cli.command import option
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.model.quant.recipes import FORMS, Form

if TYPE_CHECKING:
    from lmstack.rag.filters import Condition, Filter

__all__ = [
    "AdapterName",
    "Also",
    "Docs",
    "DraftName",
    "EmbedderName",
    "IndexFolder",
    "ModelName",
    "ModelOnDisk",
    "NumPassages",
    "Place",
    "Rebuild",
    "Weights",
    "Where",
    "check_words",
    "filter_of",
    "index_place",
    "one_source",
    "say_if_remote",
]

# A folder, or the address of a database.
Place = Any


def index_place(text: str) -> Place:
    """What ``--index`` names: the parser of every such option."""
    from lmstack.rag.stores.address import index_place

    return index_place(text)


ModelName = Annotated[
    str | None,
    option(
        "--model NAME: The language model: a name in the store, a folder, an adapter's too, or "
        "a remote one as openai:NAME or anthropic:NAME, to which question and passages are then"
        " sent. [default: qwen2.5-coder-1.5b-instruct, or smollm2-135m-instruct where only that"
        " is here]"
    ),
]
ModelOnDisk = Annotated[
    str,
    option("MODEL: A short name, a model folder or a .gguf file; nothing is pulled."),
]
AdapterName = Annotated[
    str | None,
    option(
        "--adapter DIR: A LoRA adapter beside the model: its folder, or its name in the store. "
        "Without a model it goes with the base that it names."
    ),
]
Weights = Annotated[
    Form | None,
    option(
        f"--weights FORM: How the language model's weights are held: {', '.join(FORMS)}; file "
        "and file8 are the blocks of a GGUF file. [default: file for GGUF, else bfloat16, or "
        "float32 where that is faster]"
    ),
]
DraftName = Annotated[
    str | None,
    option(
        "--draft NAME: A smaller language model with the same tokenizer, which says what may "
        "come next. Answers stay the same; they come faster where it is right often enough."
    ),
]
ReaderName = Annotated[
    str | None,
    option(
        "--reader NAME: The model that chooses what answers, and whether anything does: a "
        "cross-encoder of the store, its folder, or the adapter that recipes/reader.yaml made. "
        "[default: ms-marco-minilm-l12]"
    ),
]
EmbedderName = Annotated[
    str | None,
    option(
        "--embedder NAME: The embedding model: a name in the store or a folder, with "
        ",dimensions=N for shorter vectors, ,tokens=N to read less of each text and "
        ",weights=FORM for how its weights are held; or openai:NAME, to which texts are then "
        "sent. [default: the one that the index was made with, else all-minilm-l6-v2]"
    ),
]
Also = Annotated[
    list[str] | None,
    option(
        "--also NAME[=FORM]: Also serve this model for what it can do: chat, completions, "
        "rerank, classify, tasks; repeat it for several. FORM is that of its weights, as for "
        "--weights; unless given, float32 for what does not write."
    ),
]
Docs = Annotated[
    Path | None,
    option("--docs DIR: A folder of documents; its index is kept."),
]
IndexFolder = Annotated[
    Place | None,
    option(
        "--index DIR: An index made with `lmstack index add`: its folder, or "
        "postgresql://HOST/DATABASE.",
        parser=index_place,
    ),
]
NumPassages = Annotated[int, option("-k N 1..1000: How many passages.")]
Rebuild = Annotated[
    bool,
    option("--rebuild: Make the index anew, for instance for another embedding model."),
]


def filter_of(where: list[str] | None) -> Filter | None:
    """The conjunction of all ``--where``. ``~`` in a path is the home: in quotes, as conditions
    are, no shell says so. (Nor does a server: it is somebody else's home there.)"""
    if not where:
        return None
    from lmstack.rag.filters import PATHS, all_of, parse_condition

    conditions = map(parse_condition, where)
    return all_of(*(_at_home(one) if one.name in PATHS else one for one in conditions))


def _at_home(condition: Condition) -> Condition:
    value = condition.value
    if isinstance(value, str):
        return replace(condition, value=os.path.expanduser(value))
    if isinstance(value, tuple):
        return replace(condition, value=tuple(os.path.expanduser(str(one)) for one in value))
    return condition


def check_words(words: str, what: str, command: str) -> None:
    """``words`` say something, and are text: a byte that is not UTF-8 arrives as a surrogate."""
    if not words.strip():
        raise CommandLineError(
            f"the {what} is empty", hint=f'{command} "{what.upper()}" --docs DIR', param=what
        )
    broken = next((c for c in words if "\ud800" <= c <= "\udfff"), None)
    if broken is not None:
        raise CommandLineError(
            f"the {what} is not valid UTF-8 (byte 0x{ord(broken) & 0xFF:02x} at character"
            f" {words.index(broken)})",
            hint="type it again, in a terminal that is set to UTF-8",
            param=what,
        )


def one_source(
    docs: Path | None, index: Path | None, command: str, typed: str | None = None
) -> None:
    """Exactly one of ``--docs`` and ``--index``. ``typed``: all that was, for the hint."""
    if docs is None and index is None:
        raise CommandLineError(
            f"{command} has neither --docs nor --index",
            hint=f"{typed or command} --docs DIR",
            param="docs",
        )
    if docs is not None and index is not None:
        raise CommandLineError(
            f"{command} has both --docs and --index", hint="leave one out", param="docs"
        )


def say_if_remote(out: Output, model: str | None) -> None:
    """Nothing leaves this machine unsaid."""
    if model is not None and wiring.is_remote(model):
        provider = model.partition(":")[0]
        address = printable(wiring.remote_address(provider) or provider, one_line=True)
        out.note(f"questions and the passages found are sent to {address}")


Where = Annotated[
    list[str] | None,
    option(
        "--where CONDITION: Only documents whose fields match, such as 'format = pdf' or 'date "
        ">= 2024-06'; repeat it for several that must all hold."
    ),
]
