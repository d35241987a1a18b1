"""The engine as its callers see it: limits, events, failures, cancelling, threads."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest
import torch
from tests.engine.conftest import (
    EOS,
    NUM_TOKENS,
    Outcome,
    byte_vocabulary,
    drive,
    generate,
    request,
    tiny_config,
)

from lmstack.core import ContextLengthError, EngineError, InputError, OverloadedError
from lmstack.core import UnsupportedError as Unsupported
from lmstack.engine import Engine, EngineConfig, TokenEvent
from lmstack.model import Transformer

MakeEngine = Callable[..., Engine]


def test_max_tokens_ends_with_length(make_engine: MakeEngine) -> None:
    outcome = generate(make_engine(), [1, 2], max_tokens=5)
    assert len(outcome.tokens) == 5
    assert outcome.last.finish_reason == "length"
    assert all(e.finish_reason is None for e in outcome.events[:-1])


def test_eos_ends_with_stop_unless_ignored(make_engine: MakeEngine) -> None:
    forced = {"logit_bias": {EOS: 100}}
    outcome = generate(make_engine(), [1], **forced)
    assert (outcome.tokens, outcome.last.finish_reason) == ([EOS], "stop")
    outcome = generate(make_engine(), [1], ignore_eos=True, **forced)
    assert outcome.tokens == [EOS] * 8


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_ids_of_a_padded_vocabulary_are_read_and_never_written(penalty: float) -> None:
    """Rows of the embedding table beyond the tokenizer's tokens, as padded models have them."""
    torch.manual_seed(7)
    padded = Transformer(tiny_config(vocab_size=NUM_TOKENS + 10)).eval()
    padded.reset_parameters(std=0.35)
    with torch.no_grad():
        padded.head.weight[NUM_TOKENS:] *= 9
    engine = Engine(padded, byte_vocabulary(), EngineConfig(num_blocks=16))
    prompt = [1, NUM_TOKENS + 4, 2]
    outcome = generate(engine, prompt, max_tokens=4, repetition_penalty=penalty, ignore_eos=True)
    assert max(outcome.tokens) < NUM_TOKENS
    with torch.no_grad():
        logits = padded(torch.tensor([prompt])).logits[0, -1]
    assert logits.argmax() >= NUM_TOKENS
    known = logits[:NUM_TOKENS].clone()
    known[[1, 2]] = torch.where(known[[1, 2]] > 0, known[[1, 2]] / penalty, known[[1, 2]] * penalty)
    assert outcome.tokens[0] == known.argmax()
    for ids, echo in (([NUM_TOKENS + 10], False), (prompt, True)):
        asked = dataclasses.replace(request(ids), echo=echo)
        with pytest.raises(InputError, match=rf"token {ids[-2:][0]}, outside"):
            engine.submit(asked)


def test_a_tokenizer_larger_than_the_model_is_named_where_it_shows() -> None:
    small = Transformer(tiny_config(vocab_size=100)).eval()
    engine = Engine(small, byte_vocabulary(), EngineConfig(num_blocks=16))
    assert max(generate(engine, [1, 99], max_tokens=4).tokens) < 100
    with pytest.raises(InputError, match=r"token 100, outside \[0, 100\)") as error:
        engine.submit(request([1, 100]))
    assert "the tokenizer has 260 tokens and the model embeddings of 100" in error.value.hint


def test_stop_ids_end_even_when_eos_is_ignored(make_engine: MakeEngine) -> None:
    engine, outcome = make_engine(), Outcome()
    asked = request([1], outcome, ignore_eos=True, logit_bias={9: 100})
    engine.submit(dataclasses.replace(asked, stop_ids=frozenset({9})))
    drive(engine)
    assert (outcome.tokens, outcome.last.finish_reason) == ([9], "stop")


def test_a_stop_string_ends_and_its_bytes_are_not_safe(make_engine: MakeEngine) -> None:
    plain = generate(make_engine(), [1, 2], max_tokens=8)
    data = [byte_vocabulary().token_bytes[t] for t in plain.tokens]
    whole = b"".join(data)
    # Byte tokens of a random model are rarely UTF-8; look for an ASCII byte that is produced.
    place = next(i for i, b in enumerate(whole) if b < 128 and whole.index(b) == i)
    outcome = generate(make_engine(), [1, 2], stop=(chr(whole[place]),))
    assert outcome.last.finish_reason == "stop"
    assert outcome.last.safe_bytes == place


def test_without_max_tokens_the_window_ends_with_length(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=65)
    outcome = generate(engine, [1] * 250, max_tokens=None, ignore_eos=True)
    assert engine.context_length == 256
    assert (len(outcome.tokens), outcome.last.finish_reason) == (6, "length")


@pytest.mark.parametrize(
    ("count", "max_tokens", "num_blocks", "says"),
    [
        (256, None, 65, "256 tokens, the model's context window has 256"),
        (250, 7, 65, "250 tokens and max_tokens 7, the model's context window has 256"),
        (30, 11, 10, "30 tokens and max_tokens 11, the KV pool holds 40"),
    ],
)
def test_what_can_never_fit_is_refused_with_both_numbers(
    make_engine: MakeEngine, count: int, max_tokens: int | None, num_blocks: int, says: str
) -> None:
    engine = make_engine(num_blocks=num_blocks)
    with pytest.raises(ContextLengthError, match=says):
        engine.submit(request([1] * count, max_tokens=max_tokens))
    assert generate(engine, [1]).done


def test_what_fits_exactly_is_served(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=10)
    assert len(generate(engine, [1] * 30, max_tokens=10).tokens) == 10


@pytest.mark.parametrize(
    ("prompt", "options", "param"),
    [
        ([], {}, "prompt"),
        ([NUM_TOKENS], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([1], {"logit_bias": {NUM_TOKENS: 1.0}}, "logit_bias"),
    ],
)
def test_bad_requests_are_refused_by_the_name_of_the_field(
    make_engine: MakeEngine, prompt: list[int], options: dict[str, object], param: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_engine().submit(request(prompt, **options))
    assert caught.value.param == param


def test_an_id_in_use_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(request([1]))
    with pytest.raises(InputError, match="running already"):
        engine.submit(request([1]))


def test_a_full_queue_refuses_and_says_when_to_come_back(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=2, max_waiting=3)
    for i in range(5):
        engine.submit(request([1], id=str(i)))
    with pytest.raises(OverloadedError) as caught:
        engine.submit(request([1], id="more"))
    assert caught.value.retry_after_s >= 1
    drive(engine)
    engine.submit(request([1], id="more"))


def test_requests_submitted_together_are_queued_all_or_none(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=2, max_waiting=0)
    with pytest.raises(OverloadedError):
        engine.submit(*(request([1], id=str(i)) for i in range(3)))
    assert engine.stats().num_waiting == 0
    engine.submit(request([1], id="0"))


def test_prefix_hits_are_reported(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert generate(engine, range(11)).last.cached_tokens == 0
    # Two whole blocks, and of the third the part before what differs.
    assert generate(engine, [*range(10), 99]).last.cached_tokens == 10
    stats = engine.stats()
    assert (stats.num_prefix_queries, stats.num_prefix_hits) == (22, 10)
    assert stats.prefix_hit_rate == 10 / 22


def test_what_one_scope_computed_is_no_hit_for_another(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = range(11)
    texts = set()
    for scope in ("", "hr", "board", "hr,board"):
        first = generate(engine, prompt, cache_scope=scope)
        again = generate(engine, prompt, cache_scope=scope)
        assert (first.last.cached_tokens, again.last.cached_tokens) == (0, 10)
        texts |= {tuple(event.token for event in one.events) for one in (first, again)}
    assert len(texts) == 1


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_at_any_stage_frees_the_blocks_at_once(
    make_engine: MakeEngine, steps: int
) -> None:
    engine, outcome = make_engine(max_batch_tokens=8, max_sequences=1), Outcome()
    engine.submit(request(range(20), outcome, id="a"), request(range(20), id="b"))
    for _ in range(steps):
        engine.step()
    engine.cancel("a")
    engine.cancel("b")
    assert not engine.step()
    seen = len(outcome.events)
    assert engine.stats().num_blocks_used == 0
    assert engine.stats().num_finished == {"cancelled": 2}
    assert len(outcome.events) == seen


def test_cancelling_what_is_unknown_or_over_is_ignored(make_engine: MakeEngine) -> None:
    engine = make_engine()
    generate(engine, [1], id="a")
    engine.cancel("a")
    engine.cancel("never")
    assert generate(engine, [1], id="a").done


class FailsOn(torch.nn.Module):
    """Wraps a module; raises, or gives NaN, for packed batches that hold ``token``."""

    def __init__(self, module: Transformer, token: int, nan: bool) -> None:
        super().__init__()
        self.inner, self.token, self.nan = module, token, nan
        self.config, self.dtype = module.config, module.dtype

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, context: object, **options: object
    ) -> torch.Tensor:
        bad = ids == self.token
        if bad.any() and not self.nan:
            raise RuntimeError("boom")

        def poisoned(
            layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: object = None
        ):
            v = torch.where(bad[:, None, None], torch.nan, v)
            return context.attend(layer, q, k, v, bias)  # type: ignore[attr-defined]

        poisoning = context.replace(attend=poisoned)  # type: ignore[attr-defined]
        return self.inner.hidden(ids, positions, poisoning, **options)

    def logits(self, hidden: torch.Tensor, context: object) -> torch.Tensor:
        return self.inner.logits(hidden, context)


@pytest.mark.parametrize("nan", [False, True])
def test_a_failing_request_does_not_touch_the_others(module: Transformer, nan: bool) -> None:
    config = EngineConfig(block_size=4, num_blocks=12, max_batch_tokens=64)
    prompts = [[1, 2, 3], [4, 250, 6], [7, 8, 9]]
    bias = {250: -100.0}
    alone = [
        generate(Engine(module, byte_vocabulary(), config), p, logit_bias=bias) for p in prompts
    ]
    engine = Engine(FailsOn(module, 250, nan), byte_vocabulary(), config)  # type: ignore[arg-type]
    # Twice, so that the second round gets the blocks in which the first left its failure.
    for _ in range(3):
        outcomes = [Outcome() for _ in prompts]
        for i, (p, o) in enumerate(zip(prompts, outcomes, strict=True)):
            engine.submit(request(p, o, id=str(i), logit_bias=bias))
        drive(engine)
        assert isinstance(outcomes[1].last.error, EngineError)
        assert [o.tokens for o in outcomes[::2]] == [o.tokens for o in alone[::2]]
    stats = engine.stats()
    assert stats.num_finished == {"error": 3, "length": 6}
    assert (stats.num_blocks_used, stats.num_invariant_failures) == (0, 0)


@pytest.mark.parametrize("nan", [False, True])
def test_a_failing_member_ends_its_search_and_nobody_elses(module: Transformer, nan: bool) -> None:
    config = EngineConfig(block_size=4, num_blocks=40, max_batch_tokens=64)
    search: dict[str, object] = {"ignore_eos": True, "num_beams": 3}
    alone = generate(Engine(module, byte_vocabulary(), config), [7, 8], **search)
    # A token that the text takes on its way, so that the failure comes in the middle.
    bad = alone.tokens[2]
    engine = Engine(FailsOn(module, bad, nan), byte_vocabulary(), config)  # type: ignore[arg-type]
    bias = {"logit_bias": {bad: -100.0}}
    fine = generate(Engine(module, byte_vocabulary(), config), [1, 2], **bias)
    for _ in range(2):
        failed, other = Outcome(), Outcome()
        engine.submit(request([7, 8], failed, id="a", **search))
        engine.submit(request([1, 2], other, id="b", **bias))
        drive(engine)
        assert isinstance(failed.last.error, EngineError)
        assert other.tokens == fine.tokens
        assert engine.stats().num_blocks_used == 0
    assert engine.stats().num_invariant_failures == 0


def test_a_callback_that_raises_ends_its_request_alone(make_engine: MakeEngine) -> None:
    engine, fine = make_engine(), Outcome()

    def bad(event: TokenEvent) -> None:
        raise ValueError("callback")

    engine.submit(request([1], id="bad", on_event=bad), request([2], fine, id="fine"))
    drive(engine)
    assert len(fine.tokens) == 8
    assert engine.stats().num_finished == {"error": 1, "length": 1}


def test_leaked_blocks_are_counted_and_taken_back_when_idle(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine._blocks.allocate([], 3)
    generate(engine, [1])
    assert engine.stats().num_invariant_failures == 1
    assert engine.stats().num_blocks_used == 0


def test_echo_scores_every_prompt_token_as_the_forward_pass_does(
    module: Transformer, make_engine: MakeEngine
) -> None:
    prompt = [int(x) for x in torch.randint(0, 250, (23,))]
    engine = make_engine(max_batch_tokens=8, max_sequences=4)
    generate(engine, prompt)  # a cached prefix must not swallow scores
    outcome = generate(engine, prompt, echo=True, logprobs=3)
    with torch.no_grad():
        logits = module(torch.tensor([prompt])).logits
    assert logits is not None
    expected = logits[0, :, :NUM_TOKENS].log_softmax(-1)
    scores = outcome.events[0].prompt
    assert [s.token for s in scores] == prompt
    assert scores[0].logprob is None
    for i, score in enumerate(scores[1:]):
        assert score.logprob == pytest.approx(float(expected[i, score.token]), abs=1e-4)
        assert [t for t, _ in score.top] == expected[i].topk(3).indices.tolist()
    assert all(not e.prompt for e in outcome.events[1:])


def test_echo_from_a_token_takes_what_is_before_from_the_cache(make_engine: MakeEngine) -> None:
    before, after = [*range(40)], [7, 90, 91]
    engine = make_engine(max_batch_tokens=64, max_sequences=4)
    generate(engine, [*before, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59])
    whole = generate(make_engine(), [*before, *after], echo=True, logprobs=0)
    outcome = generate(engine, [*before, *after], echo=True, logprobs=0, score_from=40)
    assert whole.events[0].cached_tokens == 0
    assert outcome.events[0].cached_tokens >= 32
    scores = outcome.events[0].prompt
    assert [s.logprob for s in scores[:40]] == [None] * 40
    expected = [s.logprob for s in whole.events[0].prompt[40:]]
    assert [s.logprob for s in scores[40:]] == pytest.approx(expected, abs=1e-4)


def test_echo_scores_survive_preemption(make_engine: MakeEngine) -> None:
    def scores(num_blocks: int) -> tuple[list[object], int]:
        engine = make_engine(num_blocks=num_blocks, max_batch_tokens=8, max_sequences=4)
        outcomes = [Outcome() for _ in range(3)]
        for i, o in enumerate(outcomes):
            options = {"echo": True, "logprobs": 0, "max_tokens": 12}
            engine.submit(request(range(i, i + 12), o, id=str(i), **options))
        drive(engine)
        return [
            [(s.token, s.logprob and round(s.logprob, 3)) for s in o.events[0].prompt]
            for o in outcomes
        ], engine.stats().num_preemptions

    plain, none = scores(64)
    pressed, some = scores(9)
    assert (none, some > 0) == (0, True)
    assert pressed == plain


def test_an_encoder_is_refused() -> None:
    encoder = Transformer(tiny_config(causal=False, head="none"))
    with pytest.raises(Unsupported, match="does not generate"):
        Engine(encoder, byte_vocabulary())


def test_memory_smaller_than_a_block_is_refused(module: Transformer) -> None:
    with pytest.raises(InputError, match="less than one block"):
        Engine(module, byte_vocabulary(), EngineConfig(kv_memory_bytes=10))


class Waiter(Outcome):
    """An outcome that another thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def __call__(self, event: TokenEvent) -> None:
        self.events.append(event)
        if event.finish_reason or event.error:
            self.over.set()


def test_many_threads_submit_and_cancel_at_random(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=24, max_sequences=8)
    engine.start()
    kept: list[Waiter] = []

    def client(number: int) -> None:
        for i in range(8):
            waiter, name = Waiter(), f"{number}-{i}"
            prompt = [number % 3] * (1 + (number + i) % 9)
            engine.submit(request(prompt, id=name, on_event=waiter, max_tokens=6))
            if (number + i) % 3 == 0:
                engine.cancel(name)
            else:
                kept.append(waiter)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(w.over.wait(60) for w in kept)
    assert all(len(w.tokens) == 6 for w in kept)
    engine.close()
    stats = engine.stats()
    assert (stats.num_blocks_used, stats.num_running, stats.num_waiting) == (0, 0, 0)


def test_close_tells_those_who_wait_and_refuses_those_who_come(make_engine: MakeEngine) -> None:
    engine, waiter = make_engine(), Waiter()
    engine.submit(request([1], on_event=waiter))
    engine.close()
    assert isinstance(waiter.last.error, EngineError)
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request([1]))
    assert engine.stats().num_blocks_used == 0
