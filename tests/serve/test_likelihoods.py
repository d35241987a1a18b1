"""Likelihoods of continuations: the tokens of lm-evaluation-harness, the numbers of the model."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder
from tokenizers import decoders, models, pre_tokenizers, processors

from lmstack.core import (
    ContextLengthError,
    EngineError,
    InputError,
    Likelihood,
    LikelihoodModel,
    Message,
    Request,
    SamplingParams,
    TextLikelihoodModel,
    UnsupportedError,
)
from lmstack.engine import EngineConfig, EngineRequest
from lmstack.evals.metrics.windows import Windows
from lmstack.model import LayerKind, RopeSpec
from lmstack.serve import create_app
from lmstack.serve import likelihoods as module
from lmstack.serve.likelihoods import EncodedContext
from lmstack.serve.local import LocalModel
from lmstack.text import ChatTemplate, Tokenizer

Pair = tuple[str, str]
Ids = tuple[list[int], list[int]]
BOS, EOS = "<s>", "</s>"
# Tokens across the border of two words, and parts of characters: é is C3 A9.
MERGES = [("t", "h"), ("Ġ", "th"), ("Ġ", "Ġ"), ("Ã", "©"), ("a", "Ã"), ("ð", "Ł"), ("e", "r")]


def with_bos(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, made.token_to_id(BOS))]
    )
    return made


def bytes_without_bos() -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    return byte_level(EOS, merges=MERGES), {"eos_token": EOS}


def bytes_with_unused_bos() -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    return byte_level(BOS, EOS, merges=MERGES), {"bos_token": BOS, "eos_token": EOS}


def bytes_with_bos() -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    made = with_bos(byte_level(BOS, EOS, merges=MERGES))
    return made, {"bos_token": BOS, "eos_token": EOS}


def words_with_bos() -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """As Llama's: a space before the first word, bytes for what is unknown."""
    tokens = ["<unk>", BOS, EOS, *(f"<0x{n:02X}>" for n in range(256)), "▁", *"abehtr", "▁t", "er"]
    made = tokenizers.Tokenizer(
        models.BPE(
            {token: n for n, token in enumerate(tokens)},
            [("▁", "t"), ("e", "r")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens([BOS, EOS])
    return with_bos(made), {"bos_token": BOS, "eos_token": EOS, "unk_token": "<unk>"}


TOKENIZERS: dict[str, Callable[[], tuple[tokenizers.Tokenizer, dict[str, str]]]] = {
    made.__name__.replace("_", " "): made
    for made in (bytes_without_bos, bytes_with_unused_bos, bytes_with_bos, words_with_bos)
}


class Reference:
    """`HFLM.tok_encode`, `TemplateLM._encode_pair` and the beginning of `TemplateLM.loglikelihood`
    of lm-evaluation-harness 0.4.13, for causal models with the arguments that it has by default."""

    def __init__(self, made: tokenizers.Tokenizer, config: dict[str, str]) -> None:
        self.tokenizer = made
        self.prefix_token = config.get("bos_token", config["eos_token"])
        self.prefix_token_id = made.token_to_id(self.prefix_token)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        special = True if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and string.startswith(self.prefix_token):
            special = False
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=special).ids
        return ids

    def encode_pair(self, context: str, continuation: str) -> Ids:
        n_spaces = len(context) - len(context.rstrip())
        if n_spaces > 0:
            continuation = context[-n_spaces:] + continuation
            context = context[:-n_spaces]
        whole_enc = self.tok_encode(context + continuation)
        context_enc = self.tok_encode(context)
        context_enc_len = len(context_enc)
        continuation_enc = whole_enc[context_enc_len:]
        return context_enc, continuation_enc

    def ids(self, context: str, continuation: str) -> Ids:
        if context == "":
            continuation_enc = self.tok_encode(continuation, add_special_tokens=False)
            return (
                ([self.prefix_token_id], continuation_enc)
                if self.prefix_token_id != continuation_enc[0]
                else (continuation_enc[:1], continuation_enc[1:])
            )
        return self.encode_pair(context, continuation)


MADE: dict[str, tuple[Reference, Tokenizer]] = {}


def tokenizers_of(name: str) -> tuple[Reference, Tokenizer]:
    if name not in MADE:
        made, config = TOKENIZERS[name]()
        MADE[name] = Reference(made, config), Tokenizer.from_json(made.to_str(), config)
    return MADE[name]


pieces = st.sampled_from(
    ["a", "b", "th", "the", " ", "  ", "\n", "\t", "\u00a0", "é", "aé", "日", "😀", "er", BOS, EOS]
)
texts = st.lists(pieces, max_size=7).map("".join)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(context=texts, continuation=texts)
def test_ids_are_those_of_lm_evaluation_harness(name: str, context: str, continuation: str) -> None:
    reference, tokenizer = tokenizers_of(name)
    assume(context or continuation)
    expected = reference.ids(context, continuation)
    assume(expected[0])  # else there it is an error
    assert EncodedContext(tokenizer, context).followed_by(continuation) == expected


def test_white_space_alone_counts_as_no_context_where_the_tokenizer_adds_nothing() -> None:
    _, tokenizer = tokenizers_of("bytes without bos")
    before, after = EncodedContext(tokenizer, " \n").followed_by("a")
    assert before == [tokenizer.eos_id]
    assert after == tokenizer.encode(" \na")


def test_a_context_that_begins_with_bos_gets_no_second_one() -> None:
    _, tokenizer = tokenizers_of("bytes with bos")
    before, _ = EncodedContext(tokenizer, f"{BOS}ab").followed_by("c")
    assert before == [tokenizer.bos_id, *tokenizer.encode("ab", add_special_tokens=False)]


# -- numbers -----------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"kinds": (LayerKind(rope=None),), "positions": "learned", "norm": "ln"}
    | {"mlp": "plain", "activation": "gelu_tanh", "qkv_bias": True},
    "gemma": {"kinds": (LayerKind(window=7), LayerKind(RopeSpec(theta=1e6))), "pattern": (0, 1)}
    | {"norm": "rms1p", "norm_place": "sandwich", "logit_softcap": 5.0},
    "bloom": {"bias": "alibi", "kinds": (LayerKind(rope=None),), "norm": "ln"},
}
PAIRS: list[Pair] = [
    ("the other", " there"),
    ("the other ", "there"),
    ("the other", " the"),
    ("the other", " a"),
    ("the other", " b"),
    ("", "the er"),
    (" ", "the"),
    ("a" * 40 + "é", "é日"),
    ("a" * 40 + "é", "é😀"),
    ("x\n", "\ny"),
    (BOS, "a"),
    ("日本", "語"),
]


def tiny(name: str, kind: str = "llama", **engine: Any) -> LocalModel:
    _, tokenizer = tokenizers_of(name)
    config = EngineConfig.from_mapping({"block_size": 4, "num_blocks": 200, **engine})
    return LocalModel(tiny_decoder(tokenizer, changes=KINDS[kind]), config)


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    with tiny("bytes without bos") as made:
        yield made


def direct(model: LocalModel, ids: Ids) -> Likelihood:
    """By a forward pass of the reference module over context and continuation alone."""
    context, continuation = ids
    with torch.no_grad():
        logits = model.module(torch.tensor([(context + continuation)[:-1]])).logits
    assert logits is not None
    rows = logits[0, -len(continuation) :].double().log_softmax(-1)
    chosen = rows.gather(1, torch.tensor(continuation)[:, None])
    greedy = rows.argmax(-1).tolist() == continuation
    return Likelihood(float(chosen.sum()), len(continuation), greedy)


def assert_equal(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> None:
    assert [(f.num_tokens, f.is_greedy) for f in found] == [
        (e.num_tokens, e.is_greedy) for e in expected
    ]
    assert [f.logprob for f in found] == pytest.approx([e.logprob for e in expected], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TOKENIZERS)
async def test_numbers_are_those_of_the_forward_pass(name: str, kind: str) -> None:
    encoded = [EncodedContext(tokenizers_of(name)[1], c).followed_by(t) for c, t in PAIRS]
    kept = [n for n, (_, after) in enumerate(encoded) if after]
    assert len(kept) > 9
    with tiny(name, kind, max_batch_tokens=64) as model:
        found = await model.likelihoods([PAIRS[n] for n in kept])
        assert_equal(found, [direct(model, encoded[n]) for n in kept])


async def test_what_greedy_decoding_writes_is_greedy_and_nothing_else_is(model: LocalModel) -> None:
    pairs: list[Pair] = []
    for context in map("the {}".format, "abcdefghijklmnopqrstuvwxyz"):
        written = model.generate(context, temperature=0, max_tokens=3)
        ids = model.tokenizer.encode(context + written)
        # Not all that it writes is text, or has the tokens with which it was written.
        if written.isascii() and len(ids) == len(model.tokenizer.encode(context)) + 3:
            pairs += [(context, written), (context, written[:-1] + "é"), (context, "é" + written)]
    assert len(pairs) >= 3
    found = await model.likelihoods(pairs)
    assert [each.is_greedy for each in found] == [True, False, False] * (len(pairs) // 3)


def pairs_of(count: int, seed: int = 0) -> list[Pair]:
    """Four continuations each, of contexts of which some begin alike."""
    drawn = random.Random(seed)
    found: list[Pair] = []
    for n in range(-(-count // 4)):
        context = ("the other there " * (n % 3)) + "".join(drawn.choices("abeht ré", k=9))
        ends = ["".join(drawn.choices("abeht é", k=drawn.randint(1, 9))) for _ in range(4)]
        found += [(context + "x", " " + end) for end in ends]
    return found[:count]


async def test_sharing_a_prefix_and_the_order_of_pairs_change_nothing() -> None:
    pairs = pairs_of(80)
    mixed = random.Random(1).sample(range(80), 80)
    with tiny("bytes with bos", max_batch_tokens=64) as shared:
        first = await shared.likelihoods(pairs)
        again = await shared.likelihoods([pairs[n] for n in mixed])
    with tiny("bytes with bos", prefix_cache=False, max_batch_tokens=64) as apart:
        alone = [(await apart.likelihoods([pair]))[0] for pair in pairs]
    assert_equal(first, alone)
    assert_equal(again, [alone[n] for n in mixed])


def watched(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> list[EngineRequest]:
    """The requests that the engine is given."""
    asked: list[EngineRequest] = []
    submit = model._engine.submit

    def seen(*requests: EngineRequest) -> None:
        asked.extend(requests)
        submit(*requests)

    monkeypatch.setattr(model._engine, "submit", seen)
    return asked


async def test_one_token_choices_of_a_context_are_one_request(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = watched(model, monkeypatch)
    context = "Question: a or b?\nAnswer:"
    letters = [(context, f" {letter}") for letter in "ABCDA"]
    two = await model.likelihoods([(context, " AB"), (context, " AC"), (context, " CA")])
    assert [len(request.targets) for request in asked] == [2, 1]
    asked.clear()
    # A space and a letter are two tokens here, so the letter alone differs.
    found = await model.likelihoods(letters)
    assert [len(request.targets) for request in asked] == [5]
    assert found[0] == found[4]
    assert {f.num_tokens for f in found} == {2}
    assert {f.num_tokens for f in two} == {3}


async def test_several_continuations_compute_their_context_once() -> None:
    context = "the other there " * 6
    pairs = [(context, f"{letter}{letter}{letter}") for letter in "abcdefgh"]
    with tiny("bytes without bos", max_batch_tokens=256) as model:
        length = len(EncodedContext(model.tokenizer, context).followed_by("a")[0])
        await model.likelihoods(pairs)
        stats = model.stats()
    computed = stats.num_prompt_tokens - stats.num_prefix_hits
    assert computed <= length + len(pairs) * (4 + 4)  # a block of four, and the rest


async def test_no_pairs_have_no_likelihoods(model: LocalModel) -> None:
    assert await model.likelihoods([]) == []


def test_is_a_likelihood_model(model: LocalModel) -> None:
    assert isinstance(model, LikelihoodModel)


# -- texts by windows --------------------------------------------------------------------------

LONG = "the other there aé 日本 " * 12


def guide(model: LocalModel, ids: list[int], max_length: int, stride: int) -> tuple[float, int]:
    """The loop of Hugging Face's guide to perplexity of models with fixed length, its sum of
    log-likelihoods and of tokens in place of means."""
    total, count, previous = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + max_length, len(ids))
        target_length = end - previous
        inputs = torch.tensor([ids[begin:end]])
        labels = inputs.clone()
        labels[:, :-target_length] = -100
        with torch.no_grad():
            logits = model.module(inputs).logits
        assert logits is not None
        kept = labels[0, 1:] != -100
        rows = logits[0, :-1].double().log_softmax(-1)[kept]
        total += float(rows.gather(1, labels[0, 1:][kept][:, None]).sum())
        count += int(kept.sum())
        previous = end
        if end == len(ids):
            break
    return total, count


@pytest.mark.parametrize("stride", [5, 16, 32])
@pytest.mark.parametrize("name", ["bytes without bos", "bytes with bos"])
async def test_strided_windows_sum_to_what_the_guide_computes(name: str, stride: int) -> None:
    windows = Windows("strided", 32, stride)
    with tiny(name, max_batch_tokens=64) as model:
        found = await model.text_likelihoods(LONG, windows.of, add_special_tokens=True)
        total, count = guide(model, model.tokenizer.encode(LONG), 32, stride)
    assert sum(each.num_tokens for each in found) == count
    assert sum(each.logprob for each in found) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("context", [1, 9])
async def test_rolling_windows_are_forward_passes_over_them(context: int) -> None:
    windows = Windows(max_length=24, context=context)
    with tiny("bytes without bos", max_batch_tokens=64) as model:
        ids = model.tokenizer.encode(LONG)
        found = await model.text_likelihoods(LONG, windows.of)
        cut = windows.of(len(ids), 256)
        assert model.tokenizer.eos_id is not None
        text = [model.tokenizer.eos_id, *ids]
        pairs = [(text[c + 1 : s + 1], text[s + 1 : e + 1]) for c, s, e in cut]
        assert sum(len(after) for _, after in pairs) == len(ids)
        assert_equal(found, [direct(model, pair) for pair in pairs])


async def test_a_text_that_fits_has_one_window_as_a_pair_without_context(model: LocalModel) -> None:
    [found] = await model.text_likelihoods("the other", Windows().of)
    assert_equal([found], await model.likelihoods([("", "the other")]))
    assert isinstance(model, TextLikelihoodModel)
    assert await model.text_likelihoods("", Windows().of) == []


async def test_windows_that_do_not_fit_or_lie_outside_are_named(model: LocalModel) -> None:
    with tiny("bytes without bos", num_blocks=8) as small:  # of 4 tokens
        with pytest.raises(ContextLengthError, match=r"windows\[0\] .* 32 can be read"):
            await small.text_likelihoods("a" * 60, Windows().of)
        assert len(await small.text_likelihoods("a" * 60, Windows(max_length=32).of)) == 2
    with pytest.raises(InputError, match="does not lie in a text of 3 tokens"):
        await model.text_likelihoods("abc", lambda _n, _m: [(0, 1, 9)])


def test_a_conversation_is_rendered_by_the_template_or_refused(model: LocalModel) -> None:
    template = ChatTemplate("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}>")
    turns = [Message("user", "a"), Message("assistant", "b")]
    _, tokenizer = tokenizers_of("bytes without bos")
    with LocalModel(tiny_decoder(tokenizer, template=template)) as chat:
        assert chat.render_chat(turns) == "[user]a[assistant]b>"
    with pytest.raises(UnsupportedError, match="tiny has no chat template"):
        model.render_chat(turns)


TEMPLATE = ChatTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    eos_token=EOS,
)


async def test_an_answer_is_scored_after_the_ids_that_it_would_be_written_after() -> None:
    _, tokenizer = tokenizers_of("bytes without bos")
    messages = (Message("system", "here"), Message("user", "the other"))
    with LocalModel(tiny_decoder(tokenizer, template=TEMPLATE)) as made:
        context = made.render_chat(messages)
        (found,) = await made.likelihoods([(context, "then")])
        ids = TEMPLATE.encode(messages, tokenizer), tokenizer.encode("then")
        assert_equal([found], [direct(made, ids)])


# -- what goes wrong ---------------------------------------------------------------------------


async def test_the_longest_pair_that_fits_and_the_first_that_does_not() -> None:
    with tiny("bytes without bos", num_blocks=8) as model:  # of 4 tokens
        [found] = await model.likelihoods([("a" * 30, "bbb")])
        assert found.num_tokens == 3
        with pytest.raises(ContextLengthError, match=r"pairs\[1\] has 31 tokens .* 3 of .* 32 can"):
            await model.likelihoods([("a", "b"), ("a" * 31, "bbb")])
        assert model.stats().num_running == 0
        assert len(await model.likelihoods([("a", "b")])) == 1


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("a", ""), r"pairs\[1\]: the continuation '' adds no token"),
        (("t", "h"), r"pairs\[1\]: the continuation 'h' adds no token"),
        (("a", "\ud800"), r"pairs\[1\], the continuation holds half a surrogate"),
        (("\udfff", "a"), r"pairs\[1\], the context holds half a surrogate"),
        (("a", 3), r"pairs\[1\], the continuation is 3, not text"),
        (("a",), r"pairs\[1\] is \('a',\)"),
        ("ab", r"pairs\[1\] is 'ab'"),
    ],
)
async def test_what_is_wrong_with_a_pair_is_said(model: LocalModel, pair: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        await model.likelihoods([("a", "b"), pair])


async def test_an_empty_context_needs_a_token_that_begins_a_text() -> None:
    tokenizer = Tokenizer.from_json(byte_level().to_str(), {})
    with pytest.raises(InputError, match="neither BOS nor EOS"):
        EncodedContext(tokenizer, "").followed_by("a")


async def test_a_model_that_computes_no_numbers_is_an_error() -> None:
    with tiny("bytes without bos") as model:
        with torch.no_grad():
            for weight in model.module.parameters():
                weight.fill_(torch.nan)
        with pytest.raises(EngineError, match="no usable logits"):
            await model.likelihoods([("a", "bc")])


async def test_an_encoder_decoder_is_refused(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_encodes", True)
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        await model.likelihoods([("a", "b")])


async def test_closing_the_model_ends_a_call() -> None:
    with tiny("bytes without bos", max_batch_tokens=8, max_sequences=4) as model:
        call = asyncio.ensure_future(model.likelihoods(pairs_of(2000)))
        while not model.stats().num_finished:
            await asyncio.sleep(0.001)
    with pytest.raises(EngineError, match="closed"):
        await call


# -- beside others -----------------------------------------------------------------------------


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    with tiny("bytes without bos", max_batch_tokens=8, max_sequences=4) as model:
        calls = [asyncio.ensure_future(model.likelihoods(pairs_of(2000, n))) for n in range(3)]
        while not model.stats().num_finished:
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        assert all(
            isinstance(ended, asyncio.CancelledError)
            for ended in await asyncio.gather(*calls, return_exceptions=True)
        )
        [found] = await model.likelihoods([("a", "b")])
        assert_equal([found], [direct(model, ([*model.tokenizer.encode("a")], [found_id(model)]))])
        stats = model.stats()
        assert (stats.num_running, stats.num_waiting, stats.num_blocks_used) == (0, 0, 0)
        assert model._likelihoods.slots._free == 2


def found_id(model: LocalModel) -> int:
    [token] = model.tokenizer.encode("b")
    return token


async def test_many_pairs_are_with_the_engine_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tiny("bytes without bos", max_batch_tokens=64, max_sequences=8) as model:
        submit, live = model._engine.submit, []

        def seen(*requests: EngineRequest) -> None:
            submit(*requests)
            live.append(len(model._engine._live))

        monkeypatch.setattr(model._engine, "submit", seen)
        monkeypatch.setattr(module, "PORTION", 16)
        found = await asyncio.gather(*(model.likelihoods(pairs_of(40, n)) for n in range(3)))
    assert [len(each) for each in found] == [40] * 3
    assert len(live) > 100
    assert max(live) == 4


async def test_a_full_queue_is_waited_for() -> None:
    with tiny("bytes without bos", max_batch_tokens=8, max_sequences=2, max_waiting=0) as model:
        sampling = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
        # Two clients that hold both places.
        streams = [model.stream(Request(prompt="a", sampling=sampling, client=c)) for c in "xy"]
        for stream in streams:
            await anext(stream)

        async def drained(stream: Any) -> int:
            return len([delta async for delta in stream])

        reading = asyncio.ensure_future(model.likelihoods(pairs_of(12), client="z"))
        await asyncio.gather(*map(drained, streams))
        assert len(await reading) == 12


async def test_somebody_who_writes_does_not_wait_for_the_pairs_of_others() -> None:
    with tiny("bytes without bos", max_batch_tokens=16, max_sequences=8) as model:
        reading = asyncio.ensure_future(model.likelihoods(pairs_of(3000)))
        while not model.stats().num_finished:
            await asyncio.sleep(0.001)
        sampling = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
        before = model.stats().num_steps
        async for _ in model.stream(Request(prompt="hello", sampling=sampling)):
            pass
        steps = model.stats().num_steps - before
        assert not reading.done()
        assert steps < 60  # 20 of its own, and some until it begins
        reading.cancel()


def test_portions_keep_contexts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION", 4)
    pairs = [(context, str(n)) for n, context in enumerate("abcabcabdddddd")]
    portions = list(module._portions(pairs))
    assert sorted(itertools.chain(*portions)) == list(range(14))
    assert [[pairs[n][0] for n in portion] for portion in portions] == [
        [*"aaabbb"],
        [*"ccdddd"],
        [*"dd"],
    ]


# -- through the server ------------------------------------------------------------------------


def parsed(answer: dict[str, Any], lengths: Sequence[int]) -> list[tuple[float, bool]]:
    """`LocalCompletionsAPI.parse_logprobs` of lm-evaluation-harness 0.4.13."""
    found = []
    for choice, length in zip(
        sorted(answer["choices"], key=lambda each: each["index"]), lengths, strict=True
    ):
        logprobs = choice["logprobs"]["token_logprobs"][length:-1]
        tops = choice["logprobs"]["top_logprobs"][length:-1]
        greedy = all(one == max(top.values()) for one, top in zip(logprobs, tops, strict=True))
        found.append((sum(logprobs), greedy))
    return found


@pytest.mark.parametrize("ends", [False, True])
async def test_lm_evaluation_harness_gets_the_same_from_the_server(
    http: Any, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """``ends``: also where the token that it has to ask for is the one that ends a text."""
    with tiny("bytes without bos") as model:
        if ends:
            compute = model._engine._executor.logits

            def ending(hidden: torch.Tensor, scratch: Any = None) -> torch.Tensor:
                found = compute(hidden, scratch)
                found[:, model.tokenizer.eos_id] += 100
                return found

            monkeypatch.setattr(model._engine._executor, "logits", ending)
        pairs = [*pairs_of(20), ("the", "re")]
        encoded = [EncodedContext(model.tokenizer, c).followed_by(t) for c, t in pairs]
        async with http(create_app(models={"m": model})) as client:
            answer = await client.post(
                "/v1/completions",
                json={
                    "model": "m",
                    "prompt": [before + after for before, after in encoded],
                    "temperature": 0,
                    "max_tokens": 1,
                    "logprobs": 1,
                    "seed": 1234,
                    "echo": True,
                },
            )
        assert answer.status_code == 200, answer.text
        found = parsed(answer.json(), [len(before) for before, _ in encoded])
        own = await model.likelihoods(pairs)
    reasons = {choice["finish_reason"] for choice in answer.json()["choices"]}
    assert reasons == {"stop" if ends else "length"}
    assert [greedy for _, greedy in found] == [each.is_greedy for each in own]
    assert [logprob for logprob, _ in found] == pytest.approx(
        [each.logprob for each in own], abs=1e-4
    )
