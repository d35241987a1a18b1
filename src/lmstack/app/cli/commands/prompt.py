"""`lmstack prompt`: prompt files, what they say, how two differ, and which does better."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands._prompt_options import (
    FOLDER,
    PromptEmbedder,
    PromptModel,
    PromptName,
    Prompts,
    VariableFiles,
    Variables,
    filled,
    given_values,
)
from lmstack.app.cli.output import Output, Style
from lmstack.app.formats import columns, printable

if TYPE_CHECKING:
    from lmstack.prompting import ChatPrompt, Explanation, PromptFile

__all__ = ["diff", "list_prompts", "show"]


group(
    "prompt",
    "list show diff test",
    """
    Look at prompt files, and try them on examples.

    lmstack prompt list
    lmstack prompt show mood --var review="It was cold." --explain
    """,
)


@command("prompt list", "lmstack prompt list --prompts ./prompts")
def list_prompts(out: Output, prompts: Prompts = FOLDER) -> None:
    """List the prompts of a folder, with their versions.

    A version is made of all that decides what is asked: turns, variables, examples, form,
    sampling. A file that cannot be read is listed with what is wrong."""
    from lmstack.prompting import PromptFolder

    found, broken = PromptFolder(prompts).read()
    if out.as_json:
        out.result(
            {
                "prompts": [_facts(prompt) for prompt in found],
                "broken": [
                    {"file": str(each.path), "message": each.error.message, "hint": each.error.hint}
                    for each in broken
                ],
            }
        )
        return
    rows = [("PROMPT", "FILE", "VARIABLES", "DESCRIPTION")]
    for prompt in found:
        variables = ", ".join(prompt.base.variables) or "-"
        row = (prompt.version, prompt.path.name, variables, prompt.description or "-")
        rows.append(tuple(printable(cell, one_line=True) for cell in row))  # type: ignore[arg-type]
    if found:
        out.lines(columns(rows))
    else:
        out.note(f"there is no prompt in {printable(str(prompts), one_line=True)}")
    for each in broken:
        out.note(printable(f"left out: {each.error}", one_line=True))


@command(
    "prompt show",
    """
    --explain: Print the exact text that the model reads, its tokens and the room.

    lmstack prompt show mood --var review="It was cold."
    lmstack prompt show mood --var-file review=review.txt --explain
    """,
)
def show(
    out: Output,
    name: PromptName,
    var: Variables = None,
    var_file: VariableFiles = None,
    explain: bool = False,
    model: PromptModel = None,
    embedder: PromptEmbedder = None,
    prompts: Prompts = FOLDER,
) -> None:
    """Print what a prompt asks.

    Without values the names of the variables stand in their places. With --explain as the model
    reads it: the text with its chat template, the tokens of each part, and the budget, which is
    what the prompt and the longest answer leave of the context. Weights are not needed; a remote
    model's tokens are not known here."""
    from lmstack.prompting import PromptFolder

    prompt = PromptFolder(prompts).find(name)
    asked = filled(prompt, given_values(prompt, var, var_file), embedder)
    found = _explained(prompt, asked, model) if explain else None
    if out.as_json:
        messages = [{"role": m.role, "content": m.content} for m in asked.messages]
        explained = None if found is None else _explanation(found)
        out.result({**_facts(prompt), "messages": messages, "explanation": explained})
        return
    if found is not None:
        _print_explanation(out, found)
        return
    for number, message in enumerate(asked.messages):
        if number:
            out.line()
        out.line(out.style(f"{message.role}:", "bold"))
        out.line(printable(message.content))


@command(
    "prompt diff",
    """
    lmstack prompt diff mood mood-short
    lmstack prompt diff mood@3f2a91c drafts/mood.md
    """,
)
def diff(
    out: Output,
    first: PromptName,
    second: PromptName,
    var: Variables = None,
    var_file: VariableFiles = None,
    embedder: PromptEmbedder = None,
    prompts: Prompts = FOLDER,
) -> None:
    """Show how two prompts, or two versions of one, differ.

    First their settings, then the text that they ask; with --var filled in. The keys of fences,
    which are made of all that a turn says, are left out."""
    from lmstack.prompting import PromptFolder

    folder = PromptFolder(prompts)
    both = [folder.find(name) for name in (first, second)]
    names = [f"{prompt.version} ({prompt.path})" for prompt in both]
    settings = _difference([_settings(prompt) for prompt in both], names)
    asked = [filled(p, given_values(p, var, var_file), embedder) for p in both]
    text = _difference([_lines(prompt) for prompt in asked], names)
    if out.as_json:
        facts = [_facts(prompt) for prompt in both]
        same = both[0].digest == both[1].digest
        out.result({"prompts": facts, "same": same, "settings": settings, "text": text})
        return
    if both[0].digest == both[1].digest:
        out.line(f"the same version: {both[0].version}")
    for title, lines in (("Settings", settings), ("Text", text)):
        if lines:
            out.line(out.style(title, "bold"))
            for line in lines:
                tone = _TONES.get(line[:1])
                plain = printable(line, one_line=True)
                out.line(out.style(plain, tone) if tone else plain)


_TONES: dict[str, Style] = {"-": "red", "+": "green", "@": "dim"}


def _facts(prompt: PromptFile) -> dict[str, Any]:
    variables = prompt.base.variables
    return {
        "name": prompt.name,
        "version": prompt.version,
        "digest": prompt.digest,
        "file": str(prompt.path),
        "description": prompt.description,
        "variables": {name: dict(vars(variable)) for name, variable in variables.items()},
    }


def _settings(prompt: PromptFile) -> list[str]:
    """What a version is made of, a line each."""
    lines: list[str] = []
    for name, value in prompt.content.items():
        if name == "turns":
            for turn in value:
                lines += [f"{turn['role']}:", *(f"  {line}" for line in turn["text"].split("\n"))]
        elif name == "examples":
            lines += [f"example: {json.dumps(each, ensure_ascii=False)}" for each in value]
        elif value and value != 1:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False, sort_keys=True)}")
    return lines


def _lines(prompt: ChatPrompt) -> list[str]:
    lines: list[str] = []
    for turn in prompt.turns:
        text = turn.message.content.replace(f"data-{turn.prompt.fence_key}", "data-…")
        lines += [f"{turn.role}:", *text.split("\n")]
    return lines


def _difference(both: Sequence[list[str]], names: Sequence[str]) -> list[str]:
    one, other = both
    return list(difflib.unified_diff(one, other, names[0], names[1], lineterm=""))


def _explained(prompt: PromptFile, asked: ChatPrompt, model: str | None) -> Explanation:
    from lmstack.app.inspect.prompt_reading import ModelReader
    from lmstack.prompting import explain

    name = model or prompt.model or wiring.default_model()
    reader = None if wiring.is_remote(name) else ModelReader(name)
    return explain(asked, reader, max_tokens=prompt.sampling.get("max_tokens"))


def _explanation(found: Explanation) -> dict[str, Any]:
    return {
        "text": found.text,
        "parts": [dict(vars(part)) for part in found.parts],
        "prompt_tokens": found.prompt_tokens,
        "template_tokens": found.template_tokens,
        "max_tokens": found.max_tokens,
        "context_length": found.context_length,
        "budget": found.budget,
    }


def _print_explanation(out: Output, found: Explanation) -> None:
    out.line(printable(found.text))
    out.line()
    rows = [("ROLE", "PART", "CHARACTERS", "TOKENS")]
    for part in found.parts:
        label = f"{part.label} (untrusted)" if part.untrusted else part.label
        rows.append((part.role, label, f"{len(part.text):,}", _number(part.tokens)))
    if found.template_tokens is not None:
        rows.append(("", "chat template", "", _number(found.template_tokens)))
    out.lines(columns(rows))
    out.line()
    if found.prompt_tokens is None:
        out.line("the tokens of a remote model are not known here")
        return
    longest = "as long as fits" if found.max_tokens is None else f"{found.max_tokens:,}"
    figures = [
        ("prompt", f"{found.prompt_tokens:,} tokens"),
        ("answer at most", longest),
        ("context", f"{found.context_length:,}" if found.context_length else "not known"),
        ("budget", "not known" if found.budget is None else f"{found.budget:,} tokens left"),
    ]
    out.lines(columns(figures))


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
