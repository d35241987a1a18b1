"""Load on a server with OpenAI's API: so many requests at once, or arrivals at random times.

A closed loop keeps ``streams`` requests running, as so many patient users would: a slow server
gets fewer. An open loop sends ``rate`` a second as strangers arrive (a Poisson process), whether
or not the server keeps up, and times count from the arrival, so that a queue cannot hide.

    python benchmarks/load.py http://127.0.0.1:8000 MODEL --streams 16
    python benchmarks/load.py http://127.0.0.1:8000 MODEL --rates 1,2,4 --plot load.svg
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import pathlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

SLOW_GAP_S = 0.2
PERCENTILES = (50, 90, 95, 99)
# Short and common: a token each in most vocabularies. Prompts differ from their first word on, so
# that a server's prefix cache does not answer for its model.
WORDS = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work number night
point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member
"""


@dataclass(frozen=True)
class Load:
    """``streams`` at once, or ``rate`` arrivals a second, for ``seconds``; what runs then is waited
    for. Prompts of ``prompt_words`` random words, answers of ``tokens``."""

    streams: int | None = None
    rate: float | None = None
    seconds: float = 60.0
    prompt_words: int = 100
    tokens: int = 128


@dataclass
class Row:
    """One request: when it was due, when each piece of text came, and how it ended. Times are
    seconds since the load began; ``error`` is None where it ended well."""

    due: float
    pieces: list[float] = field(default_factory=list)
    end: float = 0.0
    tokens: int = 0
    error: str | None = "unfinished"


def run_load(url: str, model: str, load: Load, seed: int = 0) -> dict[str, Any]:
    """The figures of ``load`` on the server at ``url``."""
    rows = asyncio.run(_rows(url, model, load, seed))
    return {**summary(rows), "streams": load.streams, "rate": load.rate}


async def _rows(url: str, model: str, load: Load, seed: int) -> list[Row]:
    chance = random.Random(seed)
    rows: list[Row] = []
    # No limit of connections: a queue has to form at the server, where it is seen.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as client:
        start = time.perf_counter()

        def now() -> float:
            return time.perf_counter() - start

        async def one(due: float) -> None:
            row = Row(due)
            rows.append(row)
            text = " ".join(chance.choices(WORDS.split(), k=load.prompt_words))
            body = {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": load.tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            try:
                await _ask(client, f"{url}/v1/chat/completions", body, row, now)
            except (httpx.HTTPError, ValueError) as error:
                row.error = type(error).__name__
            row.end = now()

        async def user() -> None:
            while now() < load.seconds:
                await one(now())

        async with asyncio.TaskGroup() as group:
            for _ in range(load.streams or 0):
                group.create_task(user())
            due = chance.expovariate(load.rate) if load.rate else load.seconds
            while due < load.seconds:
                await asyncio.sleep(max(0.0, due - now()))
                group.create_task(one(due))
                due += chance.expovariate(load.rate or 1)
    return rows


async def _ask(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], row: Row, now: Any
) -> None:
    async with client.stream("POST", url, json=body) as response:
        if response.status_code != 200:
            row.error = str(response.status_code)
            return
        async for line in response.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                row.error = None
                return
            event = json.loads(data)
            if event.get("error"):
                row.error = "error in the stream"
                return
            if any(choice["delta"].get("content") for choice in event["choices"]):
                row.pieces.append(now())
            row.tokens = (event.get("usage") or {}).get("completion_tokens", row.tokens)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Rates, percentiles of what people wait for, and errors by kind. Only answers that ended well
    count for the times."""
    good = [row for row in rows if row.error is None]
    seconds = max((row.end for row in rows), default=0.0)
    gaps = [b - a for row in good for a, b in itertools.pairwise(row.pieces)]
    return {
        "seconds": seconds,
        "requests": len(rows),
        "succeeded": len(good),
        "errors": dict(Counter(row.error for row in rows if row.error is not None)),
        "requests_per_s": len(good) / seconds if seconds else 0.0,
        "tokens_per_s": sum(row.tokens for row in rows) / seconds if seconds else 0.0,
        "first_token": spread([row.pieces[0] - row.due for row in good if row.pieces]),
        "between": spread(gaps),
        "answer": spread([row.end - row.due for row in good]),
        "slow_gap_share": sum(gap > SLOW_GAP_S for gap in gaps) / len(gaps) if gaps else 0.0,
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Percentiles of ``values`` in seconds; None of nothing."""
    if not values:
        return None
    found = zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist(), strict=True)
    return {"count": len(values), "max": max(values), **{f"p{n}": value for n, value in found}}


def draw(path: pathlib.Path, title: str, loads: Sequence[dict[str, Any]]) -> None:
    """Latency and output against arrivals a second."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9.5, 6.5), layout="constrained")
    figure.suptitle(f"{title}: median, 95th and 99th percentile by load")
    rates = [each["rate"] for each in loads]
    panels = (
        ("first_token", "Time to first token, ms"),
        ("between", "Between two pieces of text, ms"),
        ("answer", "Whole answer, ms"),
    )
    for panel, (key, name) in zip(axes.flat, panels, strict=False):
        told = [(rate, each[key]) for rate, each in zip(rates, loads, strict=True) if each[key]]
        for percentile, colour in (("p50", "#9ecae1"), ("p95", "#3182bd"), ("p99", "#e6550d")):
            times = [1000 * values[percentile] for _, values in told]
            panel.plot([rate for rate, _ in told], times, "o-", color=colour, label=percentile)
        panel.set_title(name, loc="left", fontsize=10)
        panel.legend(frameon=False, loc="upper left")
    axes[1, 1].plot(rates, [each["tokens_per_s"] for each in loads], "o-", color="#333333")
    axes[1, 1].set_title("Output of all together, tokens/s", loc="left", fontsize=10)
    for panel in axes.flat:
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[1]:
        panel.set_xlabel("requests arriving a second")
    figure.savefig(path)
    pyplot.close(figure)


def line(found: dict[str, Any]) -> str:
    """The figures of a load in a line."""
    first, gaps = found["first_token"], found["between"]
    if first is None or gaps is None:  # a low rate on a slow machine, in a quick run's seconds
        return f"no answer within the time {found['errors'] or ''}".rstrip()
    return (
        f"{found['requests_per_s']:.2f} requests/s, {found['tokens_per_s']:.0f} tokens/s, first "
        f"token p95 {first['p95']:.2f} s, between p99 {gaps['p99'] * 1e3:.0f} ms, "
        f"{found['slow_gap_share'] * 1e3:.2f} of 1,000 over {SLOW_GAP_S * 1e3:.0f} ms"
        + (f", errors {found['errors']}" if found["errors"] else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("model")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--streams", type=int, help="requests at once")
    kind.add_argument("--rates", help="arrivals a second, with commas between: loads in turn")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--plot", type=pathlib.Path, help="a picture of the rates, .svg or .png")
    given = parser.parse_args()
    rates = [None] if given.rates is None else list(map(float, given.rates.split(",")))
    loads = []
    for rate in rates:
        load = Load(given.streams, rate, given.seconds, tokens=given.tokens)
        loads.append(run_load(given.url.rstrip("/"), given.model, load))
        print(f"{f'{given.streams} at once' if rate is None else f'{rate:g}/s'}: {line(loads[-1])}")
    if given.plot and given.rates:
        draw(given.plot, f"{given.model} at {given.url}", loads)


if __name__ == "__main__":
    main()
