"""What keys share on a server and what they do not: how much sooner something comes that was
asked before, by the same key and by another one.

    python benchmarks/sharing.py            a minute; writes results/sharing.json
    python benchmarks/sharing.py --quick    one round; records nothing

A prompt's first token, `smollm2-135m-instruct`, 400 tokens that both prompts begin with; a large
grammar, compiled; a page of a PDF as a picture. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import tempfile
import time

from machine import machine
from planted_files import Body, Page, write_page
from recording import add_options, result_file

from lmstack.app.page.pictures import PagePictures
from lmstack.core import Grammar, Request, SamplingParams
from lmstack.rag import Index
from lmstack.serve import LocalEmbedder, LocalModel

MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
SHARED_TOKENS = 400
WIDTH = 1200


async def first_token(
    model: LocalModel, prompt: tuple[int, ...], key: str, grammar: Grammar | None
) -> float:
    """Seconds, of a request of ``key`` as the server scopes it."""
    sampling = SamplingParams(max_tokens=1, temperature=0)
    request = Request(
        prompt=prompt, sampling=sampling, client=key, cache_scope=key, grammar=grammar
    )
    start = time.perf_counter()
    async for _ in model.stream(request):
        return time.perf_counter() - start
    raise RuntimeError("no token")


def times(model: LocalModel, number: int, grammar: Grammar | None) -> dict[str, float]:
    """Of something new, then of the same by the same key and by another."""
    encode = model.tokenizer.encode
    words = encode(" ".join(f"item {number} {n}" for n in range(SHARED_TOKENS)))[:SHARED_TOKENS]
    begin = [] if grammar else words
    return {
        name: asyncio.run(
            first_token(model, (*begin, *encode(question)), f"{key} {number}", grammar)
        )
        for name, key, question in (
            ("new", "one", ": first question"),
            ("again", "one", ": second question"),
            ("other key", "two", ": third question"),
        )
    }


def grammar(number: int) -> Grammar:
    properties = {
        f"p{i}": {"type": "string", "pattern": f"^{number}{i}[a-z]+$"} for i in range(400)
    }
    return Grammar.json_schema({"type": "object", "properties": properties})


def pictures(rounds: int) -> list[dict[str, float]]:
    """Of a page that nobody has looked at, and of one that somebody has."""
    found = []
    embedder = LocalEmbedder.load(EMBEDDER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        text = ["The lighthouse is painted white every seven years. " * 20] * 3
        bodies = [Body(f"Chapter {n}", text, break_before=True) for n in range(rounds + 1)]
        write_page(folder / "docs/book.pdf", Page("Lighthouses", "All of them.", bodies=bodies))
        with Index.open(folder / "index", embedder) as index:
            index.add([folder / "docs"])
            drawer, view = PagePictures(), index.seen_by(frozenset())
            drawer.picture(view, 1, 1, WIDTH)  # the worker starts
            for number in range(2, rounds + 2):
                seconds = []
                for _ in range(2):
                    start = time.perf_counter()
                    drawer.picture(view, 1, number, WIDTH)
                    seconds.append(time.perf_counter() - start)
                found.append({"new": seconds[0], "other key": seconds[1]})
            drawer.close()
    return found


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {
        f"{name}, ms": round(statistics.median(each[name] for each in rounds) * 1000, 1)
        for name in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser, "sharing")
    args = parser.parse_args()
    rounds = 1 if args.quick else 7
    with LocalModel.load(MODEL) as model:
        times(model, 99, None)
        result = {
            "prompt": medians([times(model, n, None) for n in range(rounds)]),
            "grammar": medians([times(model, n, grammar(n)) for n in range(rounds)]),
        }
    result["picture of a page"] = medians(pictures(rounds))
    for name, row in result.items():
        print(f"{name:20s}" + "".join(f"{title}: {value:8.1f}   " for title, value in row.items()))
    path = result_file(args, "sharing")
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
