"""LocalModel on a tiny random model: text, stops, choices, echo, cancelling."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import (
    ChatModel,
    Completion,
    ContextLengthError,
    Delta,
    EngineError,
    Grammar,
    InputError,
    LmstackError,
    Message,
    OverloadedError,
    Request,
    SamplingParams,
    UnsupportedError,
    complete,
    complete_sync,
)
from lmstack.engine import EngineConfig, EngineRequest, native_problem
from lmstack.engine.request import TokenEvent, TokenScore
from lmstack.registry import ModelFolder
from lmstack.serve.local import LocalModel
from lmstack.serve.tokens import ChoiceText, prompt_ids
from lmstack.text import ChatTemplate, Tokenizer

TEMPLATE = ChatTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)
END, TURN = "<|end|>", "<|turn|>"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token a byte, as in GPT-2's alphabet, and two control tokens."""
    return Tokenizer.from_json(byte_level(END, TURN).to_str(), {"eos_token": END})


def tiny(
    tokenizer: Tokenizer,
    engine: EngineConfig | None = None,
    template: ChatTemplate | None = TEMPLATE,
) -> LocalModel:
    engine = engine or EngineConfig(block_size=4, num_blocks=200)
    return LocalModel(tiny_decoder(tokenizer, template=template), engine)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Iterator[LocalModel]:
    with tiny(tokenizer) as made:
        yield made


def ask(prompt: str | tuple[int, ...] = "hello", **options: object) -> Request:
    outer = {key: options.pop(key) for key in ("grammar", "echo") if key in options}
    # ASCII only, unless a test wants otherwise: a byte model writes no UTF-8 by chance.
    values = {"temperature": 0.0, "max_tokens": 12} | options
    return Request(prompt=prompt, sampling=SamplingParams.from_mapping(values), **outer)  # type: ignore[arg-type]


async def gather(model: LocalModel, request: Request) -> list[Delta]:
    return [delta async for delta in model.stream(request)]


def test_is_a_chat_model(model: LocalModel) -> None:
    assert isinstance(model, ChatModel)
    assert model.info.context_length == 256


def test_generate_gives_the_greedy_continuation(model: LocalModel) -> None:
    ids = list(model.tokenizer.encode("hello"))
    for _ in range(12):
        logits = model.module(torch.tensor([ids])).logits
        assert logits is not None
        ids.append(int(logits[0, -1].argmax()))
    data = b"".join(model.tokenizer.token_bytes(i) for i in ids[5:])
    expected = data.decode("utf-8", "replace")
    assert model.generate("hello", temperature=0, max_tokens=12) == expected


def test_messages_go_through_the_template(model: LocalModel) -> None:
    options = {"temperature": 0, "max_tokens": 8}
    chat = model.generate([Message("user", "hi")], **options)
    assert chat == model.generate("[user]hi[assistant]", **options)
    assert chat == model.generate([{"role": "user", "content": "hi"}], **options)


def test_messages_cannot_smuggle_in_control_tokens(model: LocalModel) -> None:
    request = Request(messages=(Message("user", END),))
    assert model.tokenizer.id_of(END) not in prompt_ids(
        request, model.tokenizer, model.template, encodes=False
    )


async def test_the_stream_joined_is_the_whole_answer(model: LocalModel) -> None:
    request = ask(max_tokens=40, seed=1, temperature=1.2)
    deltas = await gather(model, request)
    whole = await complete(model, request)
    assert "".join(d.text for d in deltas) == whole.text
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
    # What was cached depends on what was asked before.
    assert (
        dataclasses.replace(deltas[-1].usage, cached_tokens=whole.usage.cached_tokens)
        == whole.usage
    )
    assert whole.usage.completion_tokens == 40


@pytest.mark.parametrize("seed", range(12))
async def test_no_stop_string_nor_a_retraction_in_any_prefix_of_the_stream(
    model: LocalModel, seed: int
) -> None:
    options = {"temperature": 0.6, "seed": seed, "max_tokens": 60}
    grammar = Grammar("regex", "[abc]{50}")
    free = (await complete(model, ask(grammar=grammar, **options))).text
    stop = free[20:23]
    deltas = await gather(model, ask(grammar=grammar, stop=(stop, "zzz"), **options))
    text = "".join(d.text for d in deltas)
    assert text == free[: free.index(stop)]
    assert deltas[-2].finish_reason == "stop"


async def test_a_character_is_never_cut_in_the_stream(model: LocalModel) -> None:
    grammar = Grammar("regex", "[é漢🙂]{12}")
    deltas = await gather(model, ask(grammar=grammar, temperature=1.0, seed=2, max_tokens=100))
    assert all("�" not in d.text for d in deltas)
    assert len("".join(d.text for d in deltas)) == 12


async def test_logprob_bytes_joined_are_the_text(model: LocalModel) -> None:
    grammar = Grammar("regex", "[é漢🙂]{12}")
    whole = await complete(
        model, ask(grammar=grammar, temperature=1.0, seed=2, max_tokens=100, logprobs=2)
    )
    scores = whole.choices[0].logprobs
    assert b"".join(s.bytes for s in scores).decode() == whole.text
    assert all(len(s.top) == 2 for s in scores)
    assert all(s.logprob is not None and s.logprob <= 0 for s in scores)


def test_scores_within_a_stop_string_go_with_it(tokenizer: Tokenizer) -> None:
    choice = ChoiceText(0, tokenizer, frozenset())
    shown = []
    for letter, safe, reason in [("a", 1, None), ("x", 1, None), ("y", 1, "stop")]:
        token = tokenizer.encode(letter)[0]
        score = TokenScore(token, -1.0)
        delta = choice.push(TokenEvent("r", token, score, safe, reason))  # type: ignore[arg-type]
        shown.append(delta and (delta.text, [s.token for s in delta.logprobs]))
    assert shown == [("a", ["a"]), None, ("", [])]


def test_the_token_that_ends_is_neither_text_nor_score(model: LocalModel) -> None:
    end = model.tokenizer.id_of(END)
    assert end is not None
    whole = complete_sync(model, ask(logit_bias={end: 100.0}, logprobs=0))
    assert (whole.text, whole.choices[0].finish_reason) == ("", "stop")
    assert whole.choices[0].logprobs == ()


def test_a_control_token_works_as_a_stop_string(model: LocalModel) -> None:
    turn = model.tokenizer.id_of(TURN)
    assert turn is not None
    whole = complete_sync(model, ask(stop=(TURN,), logit_bias={turn: 100.0}, ignore_eos=True))
    assert (whole.text, whole.choices[0].finish_reason) == ("", "stop")


def test_choices_share_the_prompt_and_differ_by_seed(tokenizer: Tokenizer) -> None:
    prompt = "a prompt of more than some blocks " + "x" * 20
    with tiny(tokenizer) as model:  # of its own: no other prompt begins as this one does
        whole = complete_sync(model, ask(prompt, n=3, temperature=1.5, seed=5, max_tokens=20))
        assert len({c.text for c in whole.choices}) == 3
        assert whole.usage.completion_tokens == 60
        assert whole.usage.prompt_tokens == len(model.tokenizer.encode(prompt))
        assert model.stats().num_prefix_hits == 2 * 52
        assert whole.usage.cached_tokens == 0
        again = complete_sync(model, ask(prompt, n=3, temperature=1.5, seed=5, max_tokens=20))
        assert [c.text for c in again.choices] == [c.text for c in whole.choices]
        alone = complete_sync(model, ask(prompt, temperature=1.5, seed=5, max_tokens=20))
    assert alone.text == whole.text
    assert alone.usage.cached_tokens == whole.usage.prompt_tokens - 1  # the last gives the logits


def test_without_a_seed_choices_differ(model: LocalModel) -> None:
    whole = complete_sync(model, ask(n=4, temperature=1.5, max_tokens=20))
    assert len({c.text for c in whole.choices}) == 4


async def test_echo_comes_first_with_scores_of_the_prompt(model: LocalModel) -> None:
    deltas = await gather(model, ask("héllo", echo=True, logprobs=1))
    first = deltas[0]
    assert first.text == "héllo"
    assert b"".join(s.bytes for s in first.logprobs) == "héllo".encode()
    assert first.logprobs[0].logprob is None
    assert all(s.logprob is not None for s in first.logprobs[1:])


def test_echo_without_logprobs_is_text_alone(model: LocalModel) -> None:
    plain, echoed = complete_sync(model, ask()), complete_sync(model, ask(echo=True))
    assert echoed.text == "hello" + plain.text
    assert echoed.choices[0].logprobs == ()


def test_token_ids_are_a_prompt_too(model: LocalModel) -> None:
    ids = tuple(model.tokenizer.encode("hello"))
    assert complete_sync(model, ask(ids)).text == complete_sync(model, ask()).text


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask("x" * 256), "prompt"),
        (ask("x" * 250, max_tokens=7), "max_tokens"),
        (Request(messages=(Message("user", "x" * 300),)), "messages"),
    ],
)
def test_a_window_that_is_too_small_is_an_error_with_both_numbers(
    model: LocalModel, request_: Request, param: str
) -> None:
    with pytest.raises(ContextLengthError, match="256") as caught:
        complete_sync(model, request_)
    assert caught.value.param == param


def test_without_max_tokens_the_window_is_filled_and_said_to_be_full(model: LocalModel) -> None:
    whole = complete_sync(model, ask("x" * 250, max_tokens=None, ignore_eos=True))
    assert whole.usage.total_tokens == 256
    assert whole.choices[0].finish_reason == "length"


def test_a_bad_grammar_is_an_error_before_the_first_event(model: LocalModel) -> None:
    with pytest.raises(InputError, match="cannot be enforced") as caught:
        complete_sync(model, ask(grammar=Grammar("regex", "(")))
    assert caught.value.param == "response_format"


def test_an_empty_prompt_without_a_bos_is_an_error(model: LocalModel) -> None:
    with pytest.raises(InputError, match="empty"):
        model.generate("")


def test_a_name_that_the_prompt_has_no_place_for_is_refused_by_its_place(
    model: LocalModel,
) -> None:
    messages = (Message("user", "a"), Message("user", "b", name="ada"))
    with pytest.raises(UnsupportedError, match="'ada'") as caught:
        complete_sync(model, Request(messages))
    assert caught.value.param == "messages.1.name"


def test_a_name_that_the_template_prints_is_read(tokenizer: Tokenizer) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.name }}: {{ m.content }}{% endfor %}")
    messages = (Message("user", "a", name="ada"),)
    sampling = SamplingParams(max_tokens=1)
    with tiny(tokenizer, template=template) as named:
        usage = complete_sync(named, Request(messages, sampling=sampling)).usage
    assert usage.prompt_tokens == len(tokenizer.encode("ada: a", add_special_tokens=False))


def test_without_a_template_messages_are_refused_with_a_way_out(tokenizer: Tokenizer) -> None:
    with tiny(tokenizer, template=None) as bare:
        with pytest.raises(UnsupportedError, match="no chat template") as caught:
            bare.generate([Message("user", "hi")])
        assert "prompt" in (caught.value.hint or "")


def test_generate_refuses_several_choices(model: LocalModel) -> None:
    with pytest.raises(InputError, match="n is 2") as caught:
        model.generate("a", n=2)
    assert caught.value.param == "n"


def test_a_prompt_that_is_neither_text_nor_tokens_nor_messages_is_refused(
    model: LocalModel,
) -> None:
    with pytest.raises(InputError, match="the prompt is") as caught:
        model.generate(["a", "b"])  # type: ignore[list-item]
    assert caught.value.param == "prompt"


def test_generate_names_the_nearest_of_a_mistyped_setting(model: LocalModel) -> None:
    with pytest.raises(InputError, match="temprature") as caught:
        model.generate("a", temprature=1)
    assert "temperature" in (caught.value.hint or "")


async def test_generate_works_within_a_running_loop(model: LocalModel) -> None:
    assert model.generate("hello", temperature=0, max_tokens=3)


async def settled(model: LocalModel) -> bool:
    """Whether the engine comes to rest with every block back."""
    for _ in range(400):
        stats = model.stats()
        if not (stats.num_running or stats.num_waiting or stats.num_blocks_used):
            return True
        await asyncio.sleep(0.005)
    return False


async def test_closing_the_stream_cancels(model: LocalModel) -> None:
    before = model.stats().num_finished.get("cancelled", 0)
    stream = model.stream(ask(max_tokens=200, ignore_eos=True, n=2))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await settled(model)
    assert model.stats().num_finished["cancelled"] == before + 2


async def test_two_hundred_streams_that_stop_at_random_leave_no_block(model: LocalModel) -> None:
    async def client(number: int) -> None:
        request = ask("x" * (number % 30 + 1), max_tokens=60, ignore_eos=True)

        async def read() -> None:
            stream = model.stream(request)
            try:
                for _ in range(number % 7):
                    await anext(stream)
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

        task = asyncio.create_task(read())
        await asyncio.sleep(number % 11 * 0.002)
        if number % 3:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(client(i) for i in range(200)))
    assert await settled(model)
    assert model.stats().num_invariant_failures == 0


def test_the_engine_learns_who_asks_and_how_urgent_it_is(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, submit = [], model._engine.submit

    def noted(*requests: EngineRequest) -> None:
        seen.extend((r.client, r.sampling.priority) for r in requests)
        submit(*requests)

    monkeypatch.setattr(model._engine, "submit", noted)
    asked = dataclasses.replace(ask(n=2, priority=3), client="key:1")
    complete_sync(model, asked)
    assert seen == [("key:1", 3)] * 2


async def test_a_full_queue_lets_another_client_in_and_refuses_who_has_most(
    tokenizer: Tokenizer,
) -> None:
    config = EngineConfig(block_size=4, num_blocks=200, max_sequences=1, max_waiting=2)
    with tiny(tokenizer, config) as model:

        async def asked(client: str) -> Completion | LmstackError:
            request = ask(max_tokens=100, ignore_eos=True)
            try:
                return await complete(model, dataclasses.replace(request, client=client))
            except LmstackError as error:
                return error

        many = [asyncio.create_task(asked("many")) for _ in range(3)]
        while model.stats().num_waiting < 2:
            await asyncio.sleep(0.001)
        one = await asked("one")
        outcomes = await asyncio.gather(*many)
    assert isinstance(one, Completion)
    refused = [o for o in outcomes if not isinstance(o, Completion)]
    assert [type(o) for o in refused] == [OverloadedError]


async def test_a_task_cancelled_while_submitting_leaves_nothing(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = model._engine.submit
    gate = threading.Event()

    def slow(*requests: object) -> None:
        gate.wait(5)
        submit(*requests)  # type: ignore[arg-type]

    monkeypatch.setattr(model._engine, "submit", slow)
    task = asyncio.create_task(gather(model, ask(max_tokens=200, ignore_eos=True)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.sleep(0.02)
    assert await settled(model)


def test_a_loop_that_closes_with_a_stream_open_frees_its_blocks(model: LocalModel) -> None:
    loop = asyncio.new_event_loop()
    stream = model.stream(ask(max_tokens=200, ignore_eos=True))
    loop.run_until_complete(anext(stream))  # type: ignore[arg-type]
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert asyncio.run(settled(model))


async def test_streams_interleave(model: LocalModel) -> None:
    arrivals: list[int] = []

    async def client(number: int) -> None:
        async for delta in model.stream(ask(max_tokens=40, ignore_eos=True)):
            arrivals.extend([number] * bool(delta.text))

    await asyncio.gather(*(client(i) for i in range(4)))
    assert set(arrivals[: len(arrivals) // 2]) == {0, 1, 2, 3}


async def test_events_of_a_step_arrive_in_one_wakeup(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wakeups = 0
    call = loop.call_soon_threadsafe

    def counted(callback: object, *args: object, **kwargs: object) -> object:
        nonlocal wakeups
        wakeups += "_deliver" in getattr(callback, "__name__", "")
        return call(callback, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    await asyncio.gather(*(gather(model, ask(max_tokens=30, ignore_eos=True)) for _ in range(8)))
    # 30 tokens in about as many steps; submissions spread over a few more.
    assert 0 < wakeups <= 45


def test_close_ends_running_streams_with_an_error(tokenizer: Tokenizer) -> None:
    model = tiny(tokenizer)

    async def read() -> None:
        async for _ in model.stream(ask(max_tokens=240, ignore_eos=True)):
            model.close()

    with pytest.raises(EngineError, match="closed"):
        asyncio.run(read())


def test_a_model_that_nobody_holds_stops_its_thread(tokenizer: Tokenizer) -> None:
    before = set(threading.enumerate())
    model = tiny(tokenizer)
    (thread,) = set(threading.enumerate()) - before
    del model
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("dtype", ["int8", "float64", torch.int32])
def test_an_unknown_dtype_is_named(dtype: object) -> None:
    with pytest.raises(InputError, match="dtype"):
        LocalModel.load("anything", dtype=dtype)  # type: ignore[arg-type]


def test_saved_folder_is_loaded_by_transformers_and_by_us(
    model: LocalModel, tmp_path: object
) -> None:
    import transformers

    model.save(tmp_path)  # type: ignore[arg-type]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([model.tokenizer.encode("hello there")])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model.module(ids).logits)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert their_tokenizer.encode("hello") == model.tokenizer.encode("hello")
    chat = [{"role": "user", "content": "hi"}]
    assert (
        their_tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        == "[user]hi[assistant]"
    )
    options = {"temperature": 0, "max_tokens": 10}
    with LocalModel.load(tmp_path, dtype="float32") as again:  # type: ignore[arg-type]
        assert again.generate("hello", **options) == model.generate("hello", **options)


@pytest.mark.weights
def test_the_default_model_answers_and_keeps_to_a_schema(smollm2: ModelFolder) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    question = (Message("user", "What is the capital of Japan?"),)
    sampling = SamplingParams(temperature=0, max_tokens=60)
    with LocalModel.load(smollm2) as model:
        assert model.stats().dtype == ("bfloat16" if native_problem() else "int8")
        assert "Tokyo" in model.generate(list(question), temperature=0, max_tokens=20)
        grammar = Grammar.json_schema(schema)
        answer = complete_sync(model, Request(question, sampling=sampling, grammar=grammar))
        assert json.loads(answer.text).keys() == {"city", "big"}
        assert answer.choices[0].finish_reason == "stop"


def test_beam_search_gives_its_best_texts_as_choices(model: LocalModel) -> None:
    options = {"num_beams": 4, "max_tokens": 6, "logprobs": 0}
    many = model.complete("ab", n=3, **options)
    assert [c.index for c in many.choices] == [0, 1, 2]
    assert len({c.text for c in many.choices}) == 3
    totals = [sum(p.logprob or 0 for p in c.logprobs) for c in many.choices]
    assert totals == sorted(totals, reverse=True)
    assert model.generate("ab", **options) == many.text
    assert many.usage.completion_tokens == 18


async def test_beams_reach_a_stream_at_their_end(model: LocalModel) -> None:
    sampling = SamplingParams(num_beams=3, n=2, max_tokens=5)
    deltas = [d async for d in model.stream(Request(prompt="ab", sampling=sampling))]
    assert [d.index for d in deltas if d.finish_reason] == [0, 1]


def test_bad_words_do_not_come_with_a_space_or_without(model: LocalModel) -> None:
    first = model.generate("ab", max_tokens=1, temperature=0)
    other = model.generate("ab", max_tokens=1, temperature=0, bad_words=[first])
    assert other != first


def test_a_text_ends_with_what_an_expression_matches(model: LocalModel) -> None:
    plain = model.generate("ab", temperature=0, max_tokens=24)
    letter = next(c for c in plain if c.isascii() and c.isalpha())
    done = model.complete("ab", temperature=0, max_tokens=24, stop_regex=[f"[{letter}]"])
    assert done.text == plain[: plain.index(letter) + 1]
    assert done.choices[0].finish_reason == "stop"


def test_generate_keeps_to_a_grammar(model: LocalModel) -> None:
    text = model.generate("ab", grammar=Grammar("regex", "[xy]{3}"), num_beams=2)
    assert len(text) == 3
    assert set(text) <= {"x", "y"}


async def test_grammars_that_take_long_to_compile_keep_no_other_client_waiting(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than the pool of the event loop has threads."""
    gate = threading.Event()
    with tiny(tokenizer) as model:
        grammars = [
            Grammar.json_schema({"enum": [f"value {i} {n}" for i in range(900)]}) for n in range(12)
        ]
        monkeypatch.setattr(model._engine.grammars, "compile", lambda *_: gate.wait(30))
        hogs = [
            asyncio.create_task(gather(model, dataclasses.replace(ask(grammar=g), client="a")))
            for g in grammars
        ]
        await asyncio.sleep(0)
        other = dataclasses.replace(ask(), client="b")
        deltas = await asyncio.wait_for(gather(model, other), 10)
        assert deltas[-1].usage is not None
        assert not any(hog.done() for hog in hogs)
        for hog in hogs:
            hog.cancel()
        gate.set()
        await asyncio.gather(*hogs, return_exceptions=True)


def _exploding(number: int) -> Grammar:
    """1 kB that takes minutes and gigabytes to compile."""
    each = [{"type": "string", "pattern": f".*{n}2345{number}.*"} for n in range(24)]
    return Grammar.json_schema({"allOf": each})


async def test_a_client_that_leaves_ends_the_compiling_of_its_grammar(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 600.0)
    with tiny(tokenizer) as model:
        task = asyncio.create_task(gather(model, ask(grammar=_exploding(0))))
        while not model.stats().grammar_compile_s:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        end = asyncio.get_running_loop().time() + 10
        while model.stats().grammar_compile_s and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        assert not model.stats().grammar_compile_s
        # The thread that compiles is free again.
        grammar = Grammar.json_schema({"type": "string", "pattern": "^ab$", "maxLength": 2})
        deltas = await asyncio.wait_for(gather(model, ask(grammar=grammar)), 30)
        assert "".join(delta.text for delta in deltas) == '"ab"'


async def test_grammars_of_one_client_that_explode_leave_another_its_turn(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 0.3)
    with tiny(tokenizer) as model:
        attacks = [
            asyncio.create_task(
                gather(model, dataclasses.replace(ask(grammar=_exploding(n)), client="a"))
            )
            for n in range(6)
        ]
        await asyncio.sleep(0)
        small = Grammar.json_schema({"type": "string", "pattern": "^ab$", "maxLength": 2})
        others = [
            gather(model, dataclasses.replace(ask(), client="b")),
            gather(model, dataclasses.replace(ask(grammar=small), client="c")),
        ]
        await asyncio.wait_for(asyncio.gather(*others), 30)
        assert sum(not attack.done() for attack in attacks) >= 3
        ends = await asyncio.gather(*attacks, return_exceptions=True)
    assert all(isinstance(end, InputError) and "too complex" in end.message for end in ends)


def test_closing_does_not_wait_for_a_grammar(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 600.0)
    model = tiny(tokenizer)
    errors: list[LmstackError] = []

    def attack() -> None:
        try:
            complete_sync(model, ask(grammar=_exploding(0)))
        except LmstackError as error:
            errors.append(error)

    thread = threading.Thread(target=attack)
    thread.start()
    while not model.stats().grammar_compile_s:
        time.sleep(0.01)
    start = time.monotonic()
    model.close()
    thread.join(30)
    assert time.monotonic() - start < 10
    assert isinstance(errors[0], EngineError)
