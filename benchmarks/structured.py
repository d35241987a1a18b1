"""Structured output of a small model: does it always parse, is it right, what does it cost.

    make bench-structured [QUICK=1]
    python benchmarks/structured.py --model qwen2.5-coder-1.5b-instruct --only extraction

*Schemas*: 1,000 generated JSON Schemas (`schemas.py`), an answer each, 16 at once, checked by
`jsonschema`. An answer that is not finished within its tokens ends as such and is counted apart.
*Extraction*: the arguments of functions for questions of the Berkeley Function-Calling Leaderboard
(`verifiable_data.py`, the held-out rows), masked to the schema, and free with one repair of what
does not validate; right is what the leaderboard accepts. Differences by McNemar's exact test.
*Mask*: seconds a token of objects under a schema, beside the same number of tokens without one,
at one stream and at 32, without drafts. *Forced*: tokens a second of objects whose schema leaves
much without a choice, with such tokens (and usual choices between them) drafted and not, same
answers.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jsonschema
from machine import machine
from recording import add_options, result_file
from schemas import generated
from verifiable_data import arguments_right, json_rows

from lmstack.core import Completion, Grammar, InputError, Message, Request, SamplingParams, complete
from lmstack.engine import EngineConfig
from lmstack.engine.speculative.successors import StructureDrafts
from lmstack.evals.statistics import mcnemar, wilson
from lmstack.serve import LocalModel
from lmstack.train.rewards.json_schema import parsed_json

MODEL = "smollm2-135m-instruct"
AT_ONCE, MAX_TOKENS = 16, 1500
ROUNDS, MASKED_TOKENS = 5, 96
# Much of it leaves no choice, as in most schemas that people write.
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "full_name": {"type": "string", "maxLength": 30},
        "date_of_birth": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "occupation": {"enum": ["scientist", "artist", "politician", "athlete"]},
        "number_of_publications": {"type": "integer", "minimum": 0, "maximum": 999},
        "is_still_alive": {"type": "boolean"},
        "address": {
            "type": "object",
            "properties": {
                "street_name": {"type": "string", "maxLength": 20},
                "postal_code": {"type": "string", "pattern": "^[0-9]{5}$"},
            },
            "required": ["street_name", "postal_code"],
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
RECORD["required"] = list(RECORD["properties"])
# Never ends by itself, so that both sides make the same number of tokens.
ENDLESS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "name": {"type": "string", "maxLength": 20}},
        "required": ["id", "name"],
        "additionalProperties": False,
    },
    "minItems": 500,
}
PEOPLE = ("Marie Curie", "Pablo Picasso", "Angela Merkel", "Usain Bolt", "Ada Lovelace", "Pelé")


async def answered(model: LocalModel, asked: Sequence[Request], most: int) -> list[Any]:
    """A completion of each, or the `InputError` that it ended with."""
    places = asyncio.Semaphore(most)

    async def one(request: Request) -> Completion | InputError:
        async with places:
            try:
                return await complete(model, request)
            except InputError as error:
                return error

    return await asyncio.gather(*(one(request) for request in asked))


def request(text: str, schema: dict[str, Any] | None, **sampling: Any) -> Request:
    grammar = None if schema is None else Grammar.json_schema(schema)
    params = SamplingParams.from_mapping({"temperature": 1.0, **sampling})
    return Request(messages=(Message("user", text),), grammar=grammar, sampling=params)


def schemas(model: LocalModel, count: int) -> dict[str, Any]:
    wanted = generated(count)
    asked = [
        request("Make up some JSON.", schema, seed=n, max_tokens=MAX_TOKENS)
        for n, schema in enumerate(wanted)
    ]
    start = time.monotonic()
    found = asyncio.run(answered(model, asked, AT_ONCE))
    kinds: collections.Counter[str] = collections.Counter()
    for schema, each in zip(wanted, found, strict=True):
        kinds[kind := _kind(schema, each)] += 1
        if kind != "valid":
            said = each.message if isinstance(each, InputError) else each.text[-80:]
            print(f"{kind}: {json.dumps(schema)[:300]}\n    {said!r}", flush=True)
    return {"schemas": count, "seconds": round(time.monotonic() - start, 1), **kinds}


def _kind(schema: dict[str, Any], answer: Completion | InputError) -> str:
    if isinstance(answer, InputError):
        return "refused"
    if answer.choices[0].finish_reason == "length":
        return "cut"
    try:
        value = json.loads(answer.text)
    except ValueError:
        return "not_json"
    checks = jsonschema.Draft202012Validator(schema)
    return "valid" if checks.is_valid(value) else "invalid"


def extraction(model: LocalModel, most: int | None) -> dict[str, Any]:
    rows = json_rows()[1][:most]
    masked = asyncio.run(answered(model, [_asked(row, masked=True) for row in rows], AT_ONCE))
    free = asyncio.run(answered(model, [_asked(row, masked=False) for row in rows], AT_ONCE))
    again = [n for n, row in enumerate(rows) if not _validates(row, free[n])]
    repaired = asyncio.run(
        answered(model, [_repair(rows[n], free[n].text) for n in again], AT_ONCE)
    )
    for n, answer in zip(again, repaired, strict=True):
        free[n] = answer
    sides = {"masked": masked, "free_with_repair": free}
    right = {
        name: [_right(r, a) for r, a in zip(rows, side, strict=True)]
        for name, side in sides.items()
    }
    result: dict[str, Any] = {"rows": len(rows), "repairs_asked": len(again)}
    for name, side in sides.items():
        ok, valid = sum(right[name]), sum(_validates(r, a) for r, a in zip(rows, side, strict=True))
        result[name] = {"right": wilson(ok, len(rows)).to_json(), "valid": valid}
    pairs = list(zip(right["masked"], right["free_with_repair"], strict=True))
    result["p"] = mcnemar(pairs.count((True, False)), pairs.count((False, True)))
    return result


def _asked(row: dict[str, Any], *, masked: bool) -> Request:
    grammar = Grammar.json_schema(row["schema"]) if masked else None
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"])
    return Request(
        messages, sampling=SamplingParams(temperature=0, max_tokens=160), grammar=grammar
    )


def _repair(row: dict[str, Any], said: str) -> Request:
    asked = _asked(row, masked=False)
    problem = _problem(row, said)
    more = (Message("assistant", said), Message("user", f"{problem} Write the JSON object again."))
    return Request((*asked.messages, *more), sampling=asked.sampling)


def _problem(row: dict[str, Any], said: str) -> str:
    value = _value(said)
    if not isinstance(value, dict):
        return "That is not a JSON object."
    errors = jsonschema.Draft202012Validator(row["schema"]).iter_errors(value)
    return f"That does not follow the schema: {next(errors).message[:200]}."


def _value(text: str) -> Any:
    try:
        return parsed_json(text)
    except ValueError:
        return None


def _validates(row: dict[str, Any], answer: Completion | InputError) -> bool:
    value = None if isinstance(answer, InputError) else _value(answer.text)
    checks = jsonschema.Draft202012Validator(row["schema"])
    return isinstance(value, dict) and checks.is_valid(value)


def _right(row: dict[str, Any], answer: Completion | InputError) -> bool:
    value = None if isinstance(answer, InputError) else _value(answer.text)
    return arguments_right(value, row["accepted"])


def mask(name: str, streams: int, rounds: int) -> dict[str, Any]:
    """Seconds a step, masked over free, in turns on one model."""
    shares, times = [], collections.defaultdict(list)
    with LocalModel.load(name, engine=EngineConfig(speculation="off")) as model:
        for place in range(rounds + 1):
            for name, schema in (("masked", ENDLESS), ("free", None)):
                asked = [
                    request(
                        "List things.", schema, seed=n, max_tokens=MASKED_TOKENS, ignore_eos=True
                    )
                    for n in range(streams)
                ]
                start = time.monotonic()
                found = asyncio.run(answered(model, asked, streams))
                assert all(c.usage.completion_tokens == MASKED_TOKENS for c in found)
                if place:  # the first is to warm up
                    times[name].append(time.monotonic() - start)
        shares = [m / f for m, f in zip(times["masked"], times["free"], strict=True)]
    return {
        "streams": streams,
        "ms_a_step": {
            n: round(1e3 * statistics.median(t) / MASKED_TOKENS, 3) for n, t in times.items()
        },
        "masked_over_free": round(statistics.median(shares), 4),
        "least": round(min(shares), 4),
        "most": round(max(shares), 4),
    }


def forced(name: str, rounds: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"with": [], "without": []}
    texts: dict[str, list[str]] = {}
    with LocalModel.load(name) as model:
        asked = [
            request(f"Describe {name}.", RECORD, seed=n, max_tokens=300)
            for n, name in enumerate(PEOPLE)
        ]
        for place in range(rounds + 1):
            for name in ("without", "with"):
                with contextlib.nullcontext() if name == "with" else _nothing_forced():
                    start = time.monotonic()
                    found = asyncio.run(answered(model, asked, 1))
                    seconds = time.monotonic() - start
                texts[name] = [each.text for each in found]
                if place:
                    tokens = sum(each.usage.completion_tokens for each in found)
                    rates[name].append(tokens / seconds)
    ratios = [w / o for w, o in zip(rates["with"], rates["without"], strict=True)]
    return {
        "tokens_a_second": {n: round(statistics.median(r), 1) for n, r in rates.items()},
        "ratio": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
        "same_answers": texts["with"] == texts["without"],
    }


def _nothing_forced() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(StructureDrafts, "follows", return_value=((), ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("schemas", "extraction", "mask", "forced")
    parser.add_argument("--only", choices=parts, action="append", help="some of the parts")
    parser.add_argument("--model", default=MODEL, help="each has its own part of the results")
    add_options(parser, "structured")
    args = parser.parse_args()
    wanted, rounds = args.only or parts, 1 if args.quick else ROUNDS
    file: pathlib.Path = result_file(args, "structured")
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results: dict[str, Any] = known.get(args.model, {}) if args.only else {}
    results |= {"machine": machine()}
    with LocalModel.load(args.model) as model:
        if "schemas" in wanted:
            results["schemas"] = schemas(model, 40 if args.quick else 1000)
            print(results["schemas"], flush=True)
        if "extraction" in wanted:
            results["extraction"] = extraction(model, 8 if args.quick else None)
            print(results["extraction"], flush=True)
    if "mask" in wanted:
        results["mask"] = [mask(args.model, streams, rounds) for streams in (1, 32)]
        print(results["mask"], flush=True)
    if "forced" in wanted:
        results["forced"] = forced(args.model, rounds)
        print(results["forced"], flush=True)
    known[args.model] = results
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
