"""Options of `lmstack prompt`, and what its commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lmstack.app import wiring
from lmstack.app.cli.command import option
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.core import shown
from lmstack.core.files import store_error

if TYPE_CHECKING:
    from lmstack.prompting import ChatPrompt, PromptFile, PromptTemplate

__all__ = [
    "FOLDER",
    "PromptEmbedder",
    "PromptModel",
    "PromptName",
    "Prompts",
    "VariableFiles",
    "Variables",
    "filled",
    "given_values",
    "say_if_sent",
    "template_of",
]

FOLDER = Path("prompts")
Prompts = Annotated[
    Path,
    option("--prompts DIR: The folder of prompt files. [default: prompts]"),
]
PromptName = Annotated[
    str,
    option("PROMPT: A prompt's name, a version as name@3f2a91c, or its file."),
]
Variables = Annotated[
    list[str] | None,
    option("--var NAME=VALUE: A variable's value; repeat it for others."),
]
VariableFiles = Annotated[
    list[str] | None,
    option("--var-file NAME=FILE: A variable whose value is in a file."),
]
PromptModel = Annotated[
    str | None,
    option(
        "--model NAME: A model in the store, a folder, or a remote one as openai:NAME or "
        "anthropic:NAME. [default: the one that the prompt names, else the model that answers]"
    ),
]
PromptEmbedder = Annotated[
    str | None,
    option(
        "--embedder NAME: The embedding model that finds the nearest examples. [default: the "
        "one that the prompt names, else all-minilm-l6-v2]"
    ),
]


def given_values(
    prompt: PromptFile, given: Sequence[str] | None, files: Sequence[str] | None
) -> dict[str, Any]:
    """What ``--var`` and ``--var-file`` say, of the types of the prompt's variables. A variable
    that it does not have is left for the prompt to refuse."""
    variables = prompt.base.variables
    found: dict[str, Any] = {}
    for named, pairs in (("--var", given), ("--var-file", files)):
        for pair in pairs or ():
            name, equals, text = pair.partition("=")
            if not equals or not name or name in found:
                raise CommandLineError(
                    f"{named} is {shown(pair)}" + (", given twice" if name in found else ""),
                    hint=f"{named} NAME={'VALUE' if named == '--var' else 'FILE'}",
                    param=named.removeprefix("--"),
                )
            if named == "--var-file":
                text = _text(Path(text))
            found[name] = variables[name].parsed(name, text) if name in variables else text
    return found


def template_of(prompt: PromptFile, embedder: str | None) -> PromptTemplate:
    """With the embedder of its nearest examples, where it has some."""
    if prompt.shots is None:
        return prompt.template()
    return prompt.template(wiring.embedder(embedder or prompt.embedder or None))


def filled(prompt: PromptFile, values: dict[str, Any], embedder: str | None) -> ChatPrompt:
    """The prompt with ``values``; with the names of its variables in their places where none is
    given and some are needed."""
    if values or all(v.default is not None for v in prompt.base.variables.values()):
        return template_of(prompt, embedder).fill(values)
    return prompt.base.unfilled()


def say_if_sent(out: Output, models: Sequence[str]) -> None:
    """Nothing leaves this machine unsaid."""
    for name in dict.fromkeys(filter(wiring.is_remote, models)):
        provider = name.partition(":")[0]
        address = wiring.remote_address(provider) or provider
        out.note(f"prompts and examples are sent to {printable(address, one_line=True)}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandLineError(
            f"{shown(str(path))} is not UTF-8 text (byte {error.start})", param="var-file"
        ) from error
    except OSError as error:
        raise store_error(error, path, "reading") from error
