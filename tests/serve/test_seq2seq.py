"""Encoder-decoders behind the chat and completions routes, alone and beside a decoder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import tokenizers
import torch
from tests.byte_tokens import byte_level
from tokenizers import decoders, models, pre_tokenizers, processors

from lmstack.core import InputError, Message, Request, UnsupportedError, complete_sync
from lmstack.engine import EngineConfig, TokenEvent
from lmstack.model import LayerKind, Transformer, TransformerConfig
from lmstack.registry import GenerationDefaults, LoadedModel
from lmstack.serve import create_app
from lmstack.serve.local import LocalModel
from lmstack.serve.tokens import ChoiceText
from lmstack.text import ChatTemplate, Tokenizer

END = "</s>"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 8,
    "max_positions": 128,
}


def byte_tokenizer() -> Tokenizer:
    """A token a byte, and an end that follows every input, as T5's does."""
    made = byte_level(END, "<pad>")
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 256)]
    )
    return Tokenizer.from_json(made.to_str(), {"eos_token": END})


def seq2seq(**defaults: Any) -> LocalModel:
    torch.manual_seed(3)
    shared = {**SIZES, "bias": "t5", "attention_scale": 1.0, "kinds": (LayerKind(rope=None),)}
    encoder = TransformerConfig(vocab_size=258, causal=False, head="none", **shared)
    module = Transformer(TransformerConfig(vocab_size=258, encoder=encoder, **shared))
    module.reset_parameters(std=0.35)
    generation = GenerationDefaults(
        **{"eos_ids": frozenset({256}), "decoder_start_id": 257} | defaults
    )
    loaded = LoadedModel("t5", None, module.eval(), byte_tokenizer(), None, generation)
    return LocalModel(loaded, EngineConfig(block_size=4, num_blocks=400))


def decoder() -> LocalModel:
    torch.manual_seed(4)
    module = Transformer(TransformerConfig(vocab_size=258, **SIZES))
    module.reset_parameters(std=0.35)
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    generation = GenerationDefaults(frozenset({256}))
    loaded = LoadedModel("gpt", None, module.eval(), byte_tokenizer(), template, generation)
    return LocalModel(loaded, EngineConfig(block_size=4, num_blocks=400))


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, LocalModel]]:
    with seq2seq() as t5, decoder() as gpt:
        yield {"t5": t5, "gpt": gpt}


KINDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.9, "seed": 11},
    {"extra_body": {"num_beams": 3}},
    {"n": 2, "temperature": 0.8, "seed": 5},
    {"n": 2, "extra_body": {"use_beam_search": True, "best_of": 4}},
    {"temperature": 0, "stop": ["\x05", "a"]},
]


def body(i: int) -> dict[str, Any]:
    """Request ``i``: both models, both routes, texts of all lengths that repeat in part."""
    text = "read this " * (i % 4) + "and then " + "xyz"[i % 3] * (i % 11)
    return {
        "model": ["t5", "gpt"][i % 2],
        "max_tokens": 3 + i % 9,
        **KINDS[i % 7 % 6],
        "text": text,
    }


async def answer(client: openai.AsyncOpenAI, fields: dict[str, Any]) -> list[str]:
    fields = dict(fields)
    text = fields.pop("text")
    if fields.get("extra_body", {}).get("best_of") is None and len(text) % 2:
        done = await client.chat.completions.create(
            messages=[{"role": "user", "content": text}], **fields
        )
        return [c.message.content or "" for c in done.choices]
    stream = await client.completions.create(prompt=text, stream=True, **fields)
    texts = [""] * fields.get("n", 1)
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    return texts


@pytest.mark.parametrize("count", [24, pytest.param(64, marks=pytest.mark.long)])
async def test_mixed_requests_on_one_server_do_not_disturb_each_other(connect, both, count):
    async def leave(client: openai.AsyncOpenAI, i: int) -> None:
        """Someone who goes away in the middle."""
        stream = await client.completions.create(
            model=["t5", "gpt"][i % 2], prompt="left" * 5, max_tokens=60, stream=True, n=4
        )
        async for _ in stream:
            break
        await stream.close()

    async with connect(create_app(models=both)) as client:
        alone = [await answer(client, body(i)) for i in range(count)]
        together = await asyncio.gather(
            *(answer(client, body(i)) for i in range(count)), *(leave(client, i) for i in range(8))
        )
    assert list(together[:count]) == alone
    assert len({str(a) for a in alone}) > count // 4
    for model in both.values():
        for _ in range(200):
            if not model.stats().num_running:
                break
            await asyncio.sleep(0.01)
        assert model.stats().num_blocks_used == 0
        assert model.stats().num_invariant_failures == 0


async def test_usage_counts_what_the_encoder_read(connect, both):
    async with connect(create_app(models=both)) as client:
        done = await client.completions.create(model="t5", prompt="12345", max_tokens=4)
        again = await client.completions.create(model="t5", prompt="12345", max_tokens=4)
    assert done.usage.prompt_tokens == 6
    assert done.usage.completion_tokens <= 4
    assert again.usage.prompt_tokens_details.cached_tokens == 6


async def test_echo_is_refused(connect, both):
    async with connect(create_app(models=both)) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.completions.create(model="t5", prompt="a", echo=True)
    assert caught.value.param == "echo"


def test_messages_become_lines_of_the_input(both: dict[str, LocalModel]) -> None:
    chat = (Message("system", "Translate:"), Message("user", "a house"))
    answers = [
        both["t5"].complete(prompt, temperature=0, max_tokens=9)
        for prompt in (chat, "Translate:\na house")
    ]
    assert answers[0].text == answers[1].text
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens


def test_messages_hold_no_control_tokens(both: dict[str, LocalModel]) -> None:
    counts = [
        complete_sync(both["t5"], request).usage.prompt_tokens
        for request in (Request(messages=(Message("user", END),)), Request(prompt=END))
    ]
    assert counts == [len(END) + 1, 2]


def test_the_first_and_last_tokens_of_its_makers_are_kept_to() -> None:
    with seq2seq(forced_bos_id=65, forced_eos_id=256, bad_words=((66,), (256,))) as model:
        done = model.complete("a", temperature=0, max_tokens=5, logprobs=0)
        ids = [p.id for p in done.choices[0].logprobs]
        assert ids[0] == 65
        assert 66 not in ids
        assert done.choices[0].finish_reason == "stop"
        assert done.usage.completion_tokens == 5
        asked = model.complete("a", temperature=0, max_tokens=5, logprobs=0, forced_bos_id=67)
        assert asked.choices[0].logprobs[0].id == 67


def test_a_model_that_does_not_say_how_it_begins_is_refused() -> None:
    with (
        seq2seq(decoder_start_id=None) as model,
        pytest.raises(InputError, match="do not say what its output begins with"),
    ):
        model.generate("a")


def test_a_decoder_without_a_template_still_refuses_messages(both: dict[str, LocalModel]) -> None:
    with decoder() as model:
        model.template = None
        with pytest.raises(UnsupportedError, match="no chat template"):
            model.generate([{"role": "user", "content": "hi"}])


def words_tokenizer() -> Tokenizer:
    """Words with the mark of a space before each, as in SentencePiece."""
    pieces = ["\u2581Das", "\u2581Haus", "\u2581", "s"]
    made = tokenizers.Tokenizer(models.Unigram([(p, -1.0) for p in pieces], None))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([END])
    return Tokenizer.from_json(made.to_str(), {"eos_token": END})


@pytest.mark.parametrize(
    ("tokens", "text"),
    [((0, 1), "Das Haus"), ((4, 0, 3), "Dass"), ((2, 3, 1), "s Haus"), ((3, 0), "s Das")],
    ids=str,
)
@pytest.mark.parametrize("all_at_once", [False, True])
def test_a_text_of_its_own_does_not_begin_with_the_space_of_its_first_word(
    tokens: tuple[int, ...], text: str, all_at_once: bool
) -> None:
    tokenizer = words_tokenizer()
    choice = ChoiceText(0, tokenizer, frozenset({4}), begins=True)
    length, shown = 0, ""
    for place, token in enumerate(tokens):
        length += len(tokenizer.token_bytes(token))
        last = place == len(tokens) - 1
        safe = length if last or not all_at_once else 0
        event = TokenEvent("r", token, safe_bytes=safe, finish_reason="length" if last else None)
        delta = choice.push(event)
        shown += delta.text if delta else ""
    assert shown == text
    continuation = ChoiceText(0, tokenizer, frozenset({4}))
    delta = continuation.push(TokenEvent("r", 0, safe_bytes=4, finish_reason="length"))
    assert delta is not None
    assert delta.text == " Das"


def test_an_end_token_among_the_makers_bad_words_still_ends() -> None:
    with seq2seq(bad_words=((256,),)) as model:
        done = model.complete("a", temperature=0, max_tokens=5, logit_bias={256: 100})
    assert (done.text, done.choices[0].finish_reason) == ("", "stop")
