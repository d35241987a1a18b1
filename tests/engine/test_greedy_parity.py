"""Greedy tokens of the default model equal those of transformers on the same weights.

transformers is asked with our tokens before it: if at every place its most likely token is the
one that we chose, then by induction it would have generated the same text. That takes one pass
a prompt instead of one a token. On one prompt its own ``generate`` is run as well.

This is for the long suite: `tests/model/families/test_parity.py` holds every family to
transformers, and `test_invariance.py` the engine's tokens to those of the plain forward pass.
"""

from __future__ import annotations

import pytest
import torch
import transformers

from lmstack.core import Message, SamplingParams
from lmstack.engine import Engine, EngineConfig, EngineRequest, GrammarVocabulary
from lmstack.model import write_folder
from lmstack.registry import load

pytestmark = [pytest.mark.weights, pytest.mark.long]
COUNT = 128

CHATS = (
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Explain gravity to a six year old.",
    "List five uses for a paper clip.",
    "Translate 'good morning' into Spanish.",
    "Write a Python function that reverses a string.",
    "Summarise: The lighthouse was lit in 1844. Alan Stevenson built it. It is 48 metres tall.",
    "What is 17 + 26?",
    "Wer war Johann Sebastian Bach?",
    "Answer in one word: is water wet?",
)
PLAIN = (
    "a",
    "Once upon a time",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "def fibonacci(n):\n    ",
    '{"name": "Ada", "born": 1815, "died":',
    "1, 2, 3, 5, 8, 13,",
    "<html>\n<head>\n<title>",
    "Ünïcödé ✓ 漢字 кириллица 🙂",
    "\n\n\n",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z " * 3,
)


@pytest.fixture(scope="module")
def loaded(smollm2):
    return load(smollm2)


@pytest.fixture(scope="module")
def prompts(loaded):
    tokenizer = loaded.tokenizer
    chats = [loaded.template.encode([Message("user", text)], tokenizer) for text in CHATS]
    return [*chats, *map(tokenizer.encode, PLAIN)]


@pytest.fixture(scope="module")
def generated(loaded, prompts):
    """The tokens for each prompt, all of them in one engine at once."""
    tokenizer = loaded.tokenizer
    vocabulary = GrammarVocabulary(
        [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
        frozenset({tokenizer.eos_id}),
        tokenizer.special_ids,
    )
    engine = Engine(loaded.module, vocabulary, EngineConfig())
    found: list[list[int]] = [[] for _ in prompts]
    sampling = SamplingParams(temperature=0, max_tokens=COUNT, ignore_eos=True)
    engine.submit(
        *(
            EngineRequest(
                str(i), tuple(ids), lambda event, i=i: found[i].append(event.token), sampling
            )
            for i, ids in enumerate(prompts)
        )
    )
    while engine.step():
        pass
    engine.close()
    assert {len(tokens) for tokens in found} == {COUNT}
    return found


@pytest.fixture(scope="module")
def oracle(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2")
    write_folder(loaded.module, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_greedy_tokens_equal_those_of_transformers(prompts, generated, oracle):
    for prompt, tokens in zip(prompts, generated, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([prompt + tokens[:-1]])
            logits = oracle(ids, logits_to_keep=len(tokens)).logits[0]
        assert logits.argmax(-1).tolist() == tokens


def test_one_prompt_equals_what_transformers_generates(prompts, generated, oracle):
    with torch.inference_mode():
        out = oracle.generate(
            torch.tensor([prompts[0]]),
            attention_mask=torch.ones(1, len(prompts[0]), dtype=torch.long),
            do_sample=False,
            max_new_tokens=COUNT,
            min_new_tokens=COUNT,
            eos_token_id=None,
        )
    assert out[0, len(prompts[0]) :].tolist() == generated[0]
