"""`lmstack prompt test`: one prompt, or two, on examples whose outputs are known."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._judging import ask_of_rest
from lmstack.app.cli.commands._options import Weights
from lmstack.app.cli.commands._prompt_options import (
    FOLDER,
    PromptEmbedder,
    PromptModel,
    PromptName,
    Prompts,
    say_if_sent,
)
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import InputError, close_model

if TYPE_CHECKING:
    from lmstack.core import ChatModel
    from lmstack.pipelines.prompt_tests import Case
    from lmstack.prompting import PromptAsker, PromptFile

__all__ = ["try_prompts"]

# Examples at a time, of either prompt.
_BATCH = 16
_SHOWN, _LONGEST = 5, 160


@command(
    "prompt test",
    """
    --examples FILE: JSON Lines: the variables' values, the output that is right, and perhaps a
        scorer.
    OTHER: The prompt, or version, to compare it with.
    --scorer HOW: When an answer is right, where the example does not say it: exact, contains, regex
        or json. [default: json for a prompt with a schema, else exact]
    --output, -o FILE: Write every answer, a row an example.

    lmstack prompt test mood --examples reviews.jsonl
    lmstack prompt test mood mood-short --examples reviews.jsonl --model openai:NAME -o both.jsonl
    """,
)
def try_prompts(
    out: Output,
    name: PromptName,
    examples: Path,
    other: str | None = None,
    scorer: Literal["exact", "contains", "regex", "json"] | None = None,
    model: PromptModel = None,
    weights: Weights = None,
    embedder: PromptEmbedder = None,
    output: Path | None = None,
    prompts: Prompts = FOLDER,
) -> None:
    """Try a prompt on examples, or compare two.

    Says how often the answer is right, with a 95 % interval (Wilson). Of two prompts it says which
    examples only one of them gets right, and how likely that is if neither is better (McNemar's
    exact test). An example is not shown in the prompt that it is asked with.

    Stopped with Ctrl-C, it goes on where it was when it is started again."""
    from lmstack.pipelines.prompt_tests import (
        TestJournal,
        Trial,
        answer_all,
        read_cases,
        summary,
    )
    from lmstack.prompting import PromptFolder

    folder = PromptFolder(prompts)
    tried = [folder.find(each) for each in (name, other) if each is not None]
    if len(tried) == 2 and tried[0].digest == tried[1].digest:
        raise InputError(f"both prompts are {tried[0].version}", hint="name another one")
    cases = read_cases(examples, tried, scorer)
    names = [model or prompt.model or wiring.default_model() for prompt in tried]
    say_if_sent(out, names)
    models = {each: wiring.lazy_generator(each, weights) for each in dict.fromkeys(names)}
    try:
        askers = [
            _asker(prompt, models[each], embedder)
            for prompt, each in zip(tried, names, strict=True)
        ]
        settings = _kept_by(askers, cases, embedder)
        path = output or _place(settings)
        with TestJournal(path, settings) as file:
            out.interrupted = (f"what was answered so far is in {file.unfinished}", out.again())
            trials = [Trial(asker, case) for case in cases for asker in askers]
            ask = partial(answer_all, batch=_BATCH)
            asyncio.run(ask_of_rest(out, "Asking", "answers", trials, file, ask, file.keep))
            rows = file.rows(cases, askers)
            file.finish(rows) if output is not None else file.drop()
            out.interrupted = None
    finally:
        for each in models.values():
            close_model(each)
    found = summary(rows, askers)
    if out.as_json:
        out.result({**found, "file": None if output is None else str(output), "rows": rows})
    else:
        _say(out, found, rows, output)


def _asker(prompt: PromptFile, model: ChatModel, embedder: str | None) -> PromptAsker:
    from lmstack.prompting import PromptAsker

    nearest = None
    if prompt.shots is not None:
        nearest = wiring.embedder(embedder or prompt.embedder or None)
    return PromptAsker(model, prompt, embedder=nearest)


def _kept_by(
    askers: Sequence[PromptAsker], cases: Sequence[Case], embedder: str | None
) -> dict[str, Any]:
    """What decides the answers, by which a journal is found again."""
    keys = "".join(sorted(case.key for case in cases))
    return {
        "prompts": [asker.prompt.digest for asker in askers],
        "models": [asker.model.info.digest or asker.model.info.name for asker in askers],
        "embedder": embedder,
        "examples": hashlib.sha256(keys.encode()).hexdigest(),
    }


def _place(settings: Mapping[str, Any]) -> Path:
    """Where answers are kept until they are all there, if nobody wants a file of them."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    return wiring.home() / "prompt-tests" / f"{name}.jsonl"


def _say(
    out: Output, found: dict[str, Any], rows: Sequence[dict[str, Any]], output: Path | None
) -> None:
    table = [("PROMPT", "RIGHT", "SHARE", "95 % INTERVAL", "TOKENS READ", "WRITTEN")]
    table += [
        (
            each["prompt"],
            f"{each['right']} of {found['examples']}",
            f"{each['share']:.1%}",
            f"{each['low']:.1%} to {each['high']:.1%}",
            f"{each['prompt_tokens']:,}",
            f"{each['completion_tokens']:,}",
        )
        for each in found["prompts"]
    ]
    out.lines([printable(line, one_line=True) for line in columns(table)])
    for each in found["prompts"]:
        for problem, count in each["problems"].items():
            out.line(f"{each['prompt']}: {count} answers {_PROBLEMS.get(problem, problem)}")
    if (paired := found.get("paired")) is not None:
        first, second = (each["prompt"] for each in found["prompts"])
        out.line()
        out.line(
            f"only {first} is right on {paired['only_first']}, only {second} on"
            f" {paired['only_second']}; p = {paired['p']:.3f} (McNemar's exact test)"
        )
    _say_examples(out, rows)
    if output is not None:
        out.line(printable(f"wrote {output}", one_line=True))


_PROBLEMS = {
    "cut": "were cut",
    "not of the form": "were not of the form",
    "too long": "did not fit: the prompt is too long",
    "no answer": "had no answer in them",
}


def _say_examples(out: Output, rows: Sequence[dict[str, Any]]) -> None:
    """The first that are wrong, those that only one prompt gets right before the others."""
    wrong = [row for row in rows if not all(a["right"] for a in row["answers"])]
    wrong.sort(key=lambda row: not any(a["right"] for a in row["answers"]))
    for row in wrong[:_SHOWN]:
        values = {k: v for k, v in row.items() if k not in ("output", "scorer", "answers")}
        out.line()
        out.line(_short(json.dumps(values, ensure_ascii=False)))
        out.line(f"  right: {_short(str(row['output']))}")
        for answer in row["answers"]:
            mark = "right" if answer["right"] else "wrong"
            said = answer["text"] if answer["answer"] is None else answer["answer"]
            out.line(f"  {answer['prompt']} ({mark}): {_short(str(said))}")
    if len(wrong) > _SHOWN:
        out.line(f"and {len(wrong) - _SHOWN} more that are wrong")


def _short(text: str) -> str:
    text = printable(text, one_line=True)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
