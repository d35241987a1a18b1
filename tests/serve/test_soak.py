"""Minutes of everything at once, on real weights: nothing may leak, stall or fail.

LMSTACK_SOAK_SECONDS sets how long (default 600).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter

import httpx
import pytest

from lmstack.engine import EngineConfig
from lmstack.serve import create_app

pytestmark = [pytest.mark.weights, pytest.mark.long]

SECONDS = float(os.environ.get("LMSTACK_SOAK_SECONDS", "600"))
CLIENTS = 24
# One more than run and wait makes the queue full; a small pool makes sequences be preempted.
CONFIG = EngineConfig(max_sequences=8, max_waiting=8, num_blocks=400)
WORDS = ("the", "sky", "was", "green", "over", "a", "town", "that", "no", "map", "had", "named")
KINDS = ("chat", "stream", "leave", "time_out", "too_long", "beams", "grammar", "scores", "wrong")


@pytest.fixture(scope="module")
def model(smollm2):
    from lmstack.serve import LocalModel

    loaded = LocalModel.load(smollm2.path, weights="file", engine=CONFIG)
    yield loaded
    loaded.close()


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def body_of(kind: str, rng: random.Random) -> dict:
    words = rng.choices(WORDS, k=20_000 if kind == "too_long" else rng.randint(1, 400))
    body = {
        "model": "smol",
        "messages": [{"role": "user", "content": " ".join(words)}],
        "max_tokens": rng.randint(1, 60),
        "temperature": rng.choice([0, 1]),
        "stream": kind in ("stream", "leave"),
    }
    if kind == "beams":
        body |= {"num_beams": 3, "max_tokens": 8, "temperature": 0}
    if kind == "grammar":
        body["response_format"] = {"type": "json_object"}
    if kind == "scores":
        body |= {"logprobs": True, "top_logprobs": 3}
    if kind == "wrong":
        body["max_tokens"] = -1
    return body


async def ask(client: httpx.AsyncClient, kind: str, rng: random.Random) -> str:
    """What came of it: the status, or how the client left."""
    body = body_of(kind, rng)
    path = "/v1/chat/completions"
    if kind == "leave":
        async with client.stream("POST", path, json=body) as response:
            left = rng.randint(0, 5)
            async for _ in response.aiter_lines():
                left -= 1
                if left < 0:
                    return "left"
            return str(response.status_code)
    try:
        patience = rng.uniform(0.01, 0.5) if kind == "time_out" else 120
        response = await client.post(path, json=body, timeout=patience)
    except httpx.TimeoutException:
        return "timed out"
    if response.status_code == 429:
        assert int(response.headers["retry-after"]) > 0
        await asyncio.sleep(rng.random())
    if body["stream"] and response.status_code == 200:
        assert response.text.rstrip().endswith("data: [DONE]")
        assert '"error"' not in response.text
    return str(response.status_code)


async def test_minutes_of_mixed_load_leave_nothing_behind(serve, model):
    app = create_app(models={"smol": model}, tokenizers={"smol": model.tokenizer})
    outcomes: Counter[tuple[str, str]] = Counter()
    memory: list[int] = []
    end = time.monotonic() + SECONDS

    async def visitor(number: int, client: httpx.AsyncClient) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            kind = rng.choice(KINDS)
            outcomes[kind, await ask(client, kind, rng)] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(SECONDS / 20)
            memory.append(resident_bytes())

    limits = httpx.Limits(max_connections=CLIENTS)
    async with (
        serve(app) as url,
        httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client,
    ):
        await asyncio.gather(watch(), *(visitor(i, client) for i in range(CLIENTS)))
        for _ in range(200):
            stats = model.stats()
            if not (stats.num_running or stats.num_waiting or stats.num_blocks_used):
                break
            await asyncio.sleep(0.05)
    print(f"\n{SECONDS:.0f} s: {dict(sorted(outcomes.items()))}")
    print(f"preemptions {stats.num_preemptions}, MB {[m >> 20 for m in memory]}")
    assert (stats.num_running, stats.num_waiting, stats.num_blocks_used) == (0, 0, 0)
    assert stats.num_invariant_failures == 0
    assert {status for _, status in outcomes} <= {"200", "400", "429", "left", "timed out"}
    for kind, status in (("too_long", "400"), ("wrong", "400")):
        assert {s for k, s in outcomes if k == kind} <= {status, "429"}
    assert any(status == "429" for _, status in outcomes)
    # Flat: what the second half added is noise beside what is there.
    half = max(memory[: len(memory) // 2])
    assert max(memory[len(memory) // 2 :]) < half * 1.05
