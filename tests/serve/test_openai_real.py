"""The official client against real weights over real sockets: every supported field, streamed
and not; clients that leave; many at once. Slow parts of the model are not the point here."""

from __future__ import annotations

import asyncio
import json
import random

import openai
import pytest

from lmstack.engine.cpu.library import problem
from lmstack.serve import create_app

pytestmark = [pytest.mark.weights]

ASK = [{"role": "user", "content": "Name three colours."}]
GREEDY = {"model": "smol", "messages": ASK, "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def model(smollm2):
    from lmstack.serve import LocalModel

    # A request's tokens do not depend on what else runs or what is cached: on the native ops
    # in any form, and without them (no compiler) in float32.
    loaded = LocalModel.load(smollm2.path, weights="float32" if problem() else "file")
    yield loaded
    loaded.close()


@pytest.fixture
def app(model):
    return create_app(models={"smol": model}, tokenizers={"smol": model.tokenizer})


async def free_again(model, within_s: float = 10.0) -> tuple[int, int, int]:
    """Requests running and waiting, and blocks in use, once they are zero or time is up."""
    end = asyncio.get_running_loop().time() + within_s
    while True:
        stats = model.stats()
        left = (stats.num_running, stats.num_waiting, stats.num_blocks_used)
        if not any(left) or asyncio.get_running_loop().time() > end:
            return left
        await asyncio.sleep(0.02)


async def joined(client, **ask) -> tuple[list[str], list[str]]:
    """Texts and finish reasons of a streamed chat, by choice."""
    texts, ends = {}, {}
    async for chunk in await client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    return [texts[i] for i in sorted(texts)], [ends[i] for i in sorted(ends)]


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"max_completion_tokens": 8},
        pytest.param({"temperature": 0.9, "top_p": 0.8, "seed": 11}, marks=pytest.mark.long),
        {"temperature": 0.9, "seed": 11, "n": 3},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        pytest.param({"logit_bias": {"28": -100, "30": 5}}, marks=pytest.mark.long),
        {"stop": [",", "\n"]},
        pytest.param({"stop": "colour"}, marks=pytest.mark.long),
        {"logprobs": True, "top_logprobs": 5},
        {"response_format": {"type": "json_object"}, "max_tokens": 16},
        {"extra_body": {"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.2}, "seed": 3},
        {"extra_body": {"ignore_eos": True}, "max_tokens": 12},
        {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
    ],
    ids=lambda extra: ",".join(extra) or "plain",
)
async def test_streamed_and_whole_answers_are_equal_for_every_field(connect, app, extra):
    ask = GREEDY | extra
    async with connect(app) as client:
        whole = await client.chat.completions.create(**ask)
        texts, ends = await joined(client, **ask)
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]


async def test_max_tokens_is_exact_and_reported(connect, app):
    async with connect(app) as client:
        answer = await client.chat.completions.create(
            **GREEDY | {"max_tokens": 7}, extra_body={"ignore_eos": True}
        )
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].finish_reason == "length"


async def test_a_seed_repeats_and_another_does_not(connect, app):
    hot = GREEDY | {"temperature": 1.5, "max_tokens": 10}
    async with connect(app) as client:
        texts = [
            (await client.chat.completions.create(**hot, seed=seed)).choices[0].message.content
            for seed in (5, 5, 6)
        ]
    assert texts[0] == texts[1] != texts[2]


async def test_a_stop_string_ends_the_text_and_is_not_in_it(connect, app):
    async with connect(app) as client:
        free = await client.chat.completions.create(**GREEDY)
        text = free.choices[0].message.content
        stop = text[4:7]
        cut = await client.chat.completions.create(**GREEDY, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


async def test_logprobs_belong_to_the_text_and_are_greedy(connect, app):
    async with connect(app) as client:
        answer = await client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    data = b"".join(bytes(token.bytes) for token in tokens)
    assert data.decode("utf-8", "ignore").startswith(answer.choices[0].message.content)
    for token in tokens:
        assert token.logprob <= 0
        assert token.logprob == pytest.approx(max(t.logprob for t in token.top_logprobs))
        assert len(token.top_logprobs) == 3


async def test_a_bias_of_minus_100_bans_a_token(connect, app, model):
    async with connect(app) as client:
        free = await client.completions.create(
            model="smol", prompt="The capital of France is", temperature=0, max_tokens=1
        )
        banned = model.tokenizer.encode(free.choices[0].text, add_special_tokens=False)[0]
        other = await client.completions.create(
            model="smol",
            prompt="The capital of France is",
            temperature=0,
            max_tokens=1,
            logit_bias={str(banned): -100},
        )
    assert other.choices[0].text != free.choices[0].text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_schema_is_followed_to_the_letter(connect, app, streamed):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema, "strict": True}}
    ask = GREEDY | {"max_tokens": 60, "response_format": form}
    async with connect(app) as client:
        if streamed:
            text = (await joined(client, **ask))[0][0]
        else:
            text = (await client.chat.completions.create(**ask)).choices[0].message.content
    value = json.loads(text)
    assert set(value) == {"colour", "count"}
    assert value["colour"] in ("red", "green")
    assert type(value["count"]) is int


async def test_json_mode_gives_an_object(connect, app):
    ask = GREEDY | {"max_tokens": 60, "response_format": {"type": "json_object"}}
    async with connect(app) as client:
        answer = await client.chat.completions.create(**ask)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


async def test_echo_returns_the_prompt_with_its_logprobs(connect, app, model):
    prompt = "The sky is blue"
    ask = {"model": "smol", "prompt": prompt, "max_tokens": 3, "temperature": 0, "echo": True}
    async with connect(app) as client:
        whole = (await client.completions.create(**ask, logprobs=2)).choices[0]
        text, tokens = "", []
        async for chunk in await client.completions.create(**ask, logprobs=2, stream=True):
            if chunk.choices:
                text += chunk.choices[0].text
                tokens += chunk.choices[0].logprobs.tokens
    assert whole.text == text
    assert whole.text.startswith(prompt)
    assert whole.logprobs.tokens == tokens
    assert whole.logprobs.token_logprobs[0] is None
    assert None not in whole.logprobs.token_logprobs[1:]
    for token, offset in zip(whole.logprobs.tokens, whole.logprobs.text_offset, strict=True):
        assert whole.text[offset:].startswith(token)


async def test_token_ids_and_text_give_the_same_completion(connect, app, model):
    prompt = "Once upon a time"
    ids = model.tokenizer.encode(prompt)
    ask = {"model": "smol", "max_tokens": 8, "temperature": 0}
    async with connect(app) as client:
        texts = await client.completions.create(**ask, prompt=[prompt, prompt])
        tokens = await client.completions.create(**ask, prompt=[ids, ids])
    assert len({choice.text for choice in texts.choices + tokens.choices}) == 1


async def test_a_repeated_prompt_is_served_from_the_prefix_cache(connect, app):
    long = [{"role": "user", "content": "Remember the word apple. " * 30}]
    async with connect(app) as client:
        answers = [
            await client.chat.completions.create(model="smol", messages=long, max_tokens=1)
            for _ in range(2)
        ]
    assert answers[1].usage.prompt_tokens == answers[0].usage.prompt_tokens
    assert answers[1].usage.prompt_tokens_details.cached_tokens > 0


async def test_a_prompt_longer_than_the_window_is_refused_and_not_cut(connect, app, model):
    words = "word " * (model.info.context_length + 10)
    async with connect(app) as client:
        for streamed in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(
                    model="smol", messages=[{"role": "user", "content": words}], stream=streamed
                )
            assert caught.value.code == "context_length_exceeded"
    assert await free_again(model) == (0, 0, 0)


@pytest.mark.parametrize("clients", [50, pytest.param(200, marks=pytest.mark.long)])
async def test_clients_that_leave_at_random_leave_no_block_in_use(serve, app, model, clients):
    rng = random.Random(0)

    async def visit(url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        stream = rng.random() < 0.7
        delay = rng.random() * 2
        body = json.dumps(GREEDY | {"max_tokens": 400, "stream": stream, "n": rng.choice([1, 2])})
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        await writer.drain()
        await asyncio.sleep(delay)
        writer.transport.abort()

    before = model.stats().num_generated_tokens
    async with serve(app) as url:
        await asyncio.gather(*(visit(url) for _ in range(clients)))
        assert await free_again(model) == (0, 0, 0)
    assert model.stats().num_generated_tokens > before  # some left in the middle of an answer


async def test_32_concurrent_streams_none_fails_and_each_is_its_own(connect, app, model):
    async with connect(app) as client:

        async def one(number: int) -> str:
            ask = GREEDY | {"messages": [{"role": "user", "content": f"Say the number {number}."}]}
            texts, ends = await joined(client, **ask)
            assert ends[0] in ("stop", "length")
            return texts[0]

        texts = await asyncio.gather(*(one(i) for i in range(32)))
    assert all(texts)
    assert await free_again(model) == (0, 0, 0)


@pytest.mark.parametrize(
    ("path", "extra", "param"),
    [
        ("chat/completions", {"logit_bias": {"999999": 5}}, "logit_bias"),
        ("completions", {"prompt": [1, 999_999]}, "prompt"),
        ("completions", {"prompt": "x", "max_tokens": 2**31}, "max_tokens"),
        ("chat/completions", {"max_tokens": 8192}, "max_tokens"),
        ("chat/completions", {"schema": {"type": "nonsense"}}, "response_format"),
        ("chat/completions", {"schema": {"$ref": "#/no/such"}}, "response_format"),
        ("chat/completions", {"schema": {"pattern": "(", "type": "string"}}, "response_format"),
        ("chat/completions", {"schema": {"$ref": "http://evil.example/x"}}, "response_format"),
        ("chat/completions", {"schema": {"enum": []}}, "response_format"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_this_model_cannot_do_is_400_and_names_the_field(
    http, app, model, path, extra, param, streamed
):
    if "schema" in extra:
        named = {"name": "x", "schema": extra["schema"]}
        extra = {"response_format": {"type": "json_schema", "json_schema": named}}
    base = {"model": "smol", "stream": streamed}
    base |= {"messages": ASK} if path.startswith("chat") else {}
    async with http(app) as client:
        answer = await client.post(f"/v1/{path}", json=base | extra)
    assert answer.status_code == 400, answer.text[:500]
    assert answer.json()["error"]["param"] == param
    assert await free_again(model) == (0, 0, 0)
