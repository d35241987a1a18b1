"""A real T5 beside a real decoder on one server, and beside transformers. Minutes: `long`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
import transformers

from lmstack.core import Request, SamplingParams, complete
from lmstack.serve import create_app
from lmstack.serve.local import LocalModel

pytestmark = [pytest.mark.weights, pytest.mark.long]

TEXTS = (
    "translate English to German: The house is wonderful.",
    "summarize: The lighthouse was lit in 1844. Alan Stevenson built it. It is 48 metres tall.",
    "Who wrote the first book about birds?",
    "translate English to French: Where is the station?",
    "The user asked to fix the failing unicode test and to run the suite again.",
)


@pytest.fixture(scope="module")
def both(flan_t5, smollm2):
    with (
        LocalModel.load(flan_t5, dtype="float32") as t5,
        LocalModel.load(smollm2, dtype="float32") as gpt,
    ):
        yield {"t5": t5, "gpt": gpt}


def asked(i: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.8, "seed": i},
        {"extra_body": {"num_beams": 3}},
    ]
    content = f"{TEXTS[i % 5]} {'Again. ' * (i % 4)}"
    return {
        "model": ["t5", "gpt"][i % 2],
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 6 + i % 7,
        **kinds[i % 3],
    }


async def test_64_mixed_requests_get_what_each_gets_alone(connect, both):
    async def answer(client, i: int) -> str:
        done = await client.chat.completions.create(**asked(i))
        return done.choices[0].message.content

    async with connect(create_app(models=both)) as client:
        alone = [await answer(client, i) for i in range(64)]
        together = await asyncio.gather(*(answer(client, i) for i in range(64)))
    assert together == alone
    assert len(set(alone)) > 30
    assert both["t5"].generate(TEXTS[0], temperature=0, max_tokens=20) == "Das Haus ist wunderbar."


@pytest.fixture(scope="module")
def oracle(both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    both["t5"].save(folder)
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("beams", [1, 4])
async def test_100_texts_equal_those_of_transformers(both, oracle, beams):
    model = both["t5"]
    words = " ".join(TEXTS).split()
    inputs = [" ".join(words[i % 40 : i % 40 + 5 + i % 23]) + f" {i}" for i in range(100)]
    sampling = SamplingParams(num_beams=beams, temperature=0, max_tokens=24, logprobs=0)
    asked = (complete(model, Request(prompt=text, sampling=sampling)) for text in inputs)
    ours = [[p.id for p in d.choices[0].logprobs] for d in await asyncio.gather(*asked)]
    for start in range(0, 100, 25):
        rows = [model.tokenizer.encode(text) for text in inputs[start : start + 25]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            out = oracle.generate(
                ids,
                attention_mask=(ids != 0).long(),
                num_beams=beams,
                do_sample=False,
                max_new_tokens=24,
            )
        theirs = [[t for t in row if t not in (0, 1)] for row in out[:, 1:].tolist()]
        assert ours[start : start + 25] == theirs
