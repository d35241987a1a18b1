"""JSON under a grammar that is not finished in time: with unbounded whitespace, with none, and as
lmstack bounds it.

    python benchmarks/constrained.py             48 tries a form, at temperature 1 and by default
    python benchmarks/constrained.py --show      and print what was not finished

Twelve requests for a JSON object, four seeds each, 150 tokens, `smollm2-135m-instruct`. An answer
is finished if the grammar let it end: it is then valid JSON. Of the others it is said whether they
ran on in whitespace (a run longer than the bound) or in something else, such as a long string.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from machine import machine

from lmstack.core import Completion, Grammar, Message, Request, SamplingParams, complete
from lmstack.serve import LocalModel

HERE = pathlib.Path(__file__).parent
MODEL = "smollm2-135m-instruct"
MAX_TOKENS = 150
SEEDS = range(4)
# As docs/decoding.md states it: a line break and twenty columns.
BOUND = 22
SUBJECTS = (
    *("a person with name, age and city", "a book with title, author and year"),
    *("the weather in Paris today", "a recipe for pancakes", "three colours with their hex codes"),
    *("an order of two items with prices", "a flight from Rome to Oslo", "the planet Mars"),
    *("a film and its main actors", "a server's configuration", "a chess opening"),
    "an e-mail that invites to a meeting",
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
    },
    "required": ["name", "tags", "count"],
    "additionalProperties": False,
}
FORMS: dict[str, dict[str, Any] | None] = {
    "unbounded": {"whitespace_pattern": r"[\x20\x0A\x0D\x09]+"},
    "compact": {"whitespace_flexible": False},
    "bounded": None,
}


def grammar(schema: dict[str, Any], form: str) -> Grammar:
    stated = FORMS[form]
    if stated is None and schema == {"type": "object"}:
        return Grammar("json_object")
    return Grammar.json_schema(schema if stated is None else {**schema, "x-guidance": stated})


async def answers(model: LocalModel, chosen: Grammar, sampling: dict[str, Any]) -> list[Completion]:
    asked = [
        Request(
            messages=(Message("user", f"Write a JSON object for {subject}."),),
            sampling=SamplingParams.from_mapping(
                {**sampling, "max_tokens": MAX_TOKENS, "seed": seed}
            ),
            grammar=chosen,
        )
        for subject in SUBJECTS
        for seed in SEEDS
    ]
    return await asyncio.gather(*(complete(model, request) for request in asked))


def summary(found: Sequence[Completion]) -> dict[str, Any]:
    finished = [c for c in found if c.choices[0].finish_reason == "stop"]
    for completion in finished:
        json.loads(completion.text)
    unfinished = [c.text for c in found if c.choices[0].finish_reason != "stop"]
    runs = [max((len(r) for r in re.findall(r"\s+", text)), default=0) for text in unfinished]
    return {
        "tries": len(found),
        "unfinished": len(unfinished),
        "in_whitespace": sum(run > BOUND for run in runs),
        "tokens": sum(c.usage.completion_tokens for c in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print what was not finished")
    parser.add_argument("--json", type=pathlib.Path, default=None)
    args = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "model": MODEL, "max_tokens": MAX_TOKENS}
    with LocalModel.load(MODEL) as model:
        settings = {
            "temperature 1": {"temperature": 1.0},
            "default": dict(model.info.default_sampling),
        }
        for wanted, schema in (("json_object", {"type": "object"}), ("json_schema", SCHEMA)):
            for how, sampling in settings.items():
                for form in FORMS:
                    found = asyncio.run(answers(model, grammar(schema, form), sampling))
                    row = summary(found)
                    results.setdefault(wanted, {}).setdefault(how, {})[form] = row
                    print(f"{wanted:12} {how:14} {form:10} {row}", flush=True)
                    for c in found if args.show else ():
                        if c.choices[0].finish_reason != "stop":
                            print("   ", repr(c.text[-70:]))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
