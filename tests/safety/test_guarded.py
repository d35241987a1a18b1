"""GuardedModel: what it lets through, what it refuses, and what it writes down about both."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Delta,
    GuardError,
    InputError,
    Message,
    ModelInfo,
    OverloadedError,
    RemoteError,
    Request,
    SamplingParams,
    ScriptedModel,
    StoreError,
    Usage,
    complete,
)
from lmstack.safety import (
    GUARDS,
    AuditLog,
    Finding,
    GuardedModel,
    Limits,
    RateLimiter,
    input_digest,
    verify,
)
from lmstack.safety.chain import RESERVED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def asked(text: str = "hello", **sampling: Any) -> Request:
    return Request((Message("user", text),), sampling=SamplingParams(**sampling))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()][1:]


def events(path: Path) -> list[str]:
    return [record["event"] for record in records(path)]


class Failing(AuditLog):
    """Fails for events in ``failing``; what is taken out of it works again."""

    def __init__(self, path: Path, *failing: str, error: Exception | None = None) -> None:
        super().__init__(path, fsync=False)
        self.failing = set(failing)
        self.error = error or StoreError("disk full")

    def _append(self, file: int, record: Any) -> str:
        if record["event"] in self.failing:
            raise self.error
        return super()._append(file, record)


async def take(model: ChatModel, request: Request, count: int) -> None:
    """Read ``count`` events and go away."""
    stream = model.stream(request)
    for _ in range(count):
        await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]


def test_it_is_a_chat_model_with_the_info_of_the_one_inside() -> None:
    inner = ScriptedModel()
    model = GuardedModel(inner)
    assert isinstance(model, ChatModel)
    assert model.info == inner.info


async def test_the_answer_passes_unchanged() -> None:
    request = asked(n=2, logprobs=1)
    inner = ScriptedModel(["one two  three\n"])
    expected = await complete(inner, request)
    got = await complete(GuardedModel(inner), request)
    assert (got.choices, got.usage) == (expected.choices, expected.usage)


# The audit record.


async def test_an_answer_leaves_accepted_then_finished_for_the_same_request(path: Path) -> None:
    model = GuardedModel(ScriptedModel(["a b"]), audit=AuditLog(path))
    await complete(model, asked())
    first, second = records(path)
    assert (first["event"], second["event"]) == ("accepted", "finished")
    assert first["request"] == second["request"] != ""
    assert verify(path).ok


async def test_every_record_names_the_models_digest(path: Path) -> None:
    model = GuardedModel(
        ScriptedModel(["a", RemoteError("down")]),
        audit=AuditLog(path),
        limits=Limits(max_characters=100),
    )
    await complete(model, asked())
    for bad in (asked(), asked("x" * 101)):
        with pytest.raises((RemoteError, InputError)):
            await complete(model, bad)
    assert events(path) == ["accepted", "finished", "accepted", "failed", "refused"]
    assert {r["model"]["digest"] for r in records(path)} == {model.info.digest}


def written(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what the chain puts in and what time it took."""
    return {k: v for k, v in record.items() if k not in {*RESERVED, "seconds"}}


async def test_records_hold_this_and_nothing_else(path: Path) -> None:
    """Whoever reads a log next year looks for these names."""
    inner = ScriptedModel(["a b"])
    model = GuardedModel(inner, audit=AuditLog(path), guards=["hidden_text"])
    request = asked("hello", max_tokens=5, seed=3, temperature=0.5)
    request = dataclasses.replace(request, client="key:1", request_id="r1")
    usage = (await complete(model, request)).usage
    with pytest.raises(GuardError):
        await complete(model, dataclasses.replace(asked("\U000e0041"), request_id="r2"))
    accepted, finished, refused = records(path)
    about = {"client": "key:1", "model": {"name": inner.info.name, "digest": inner.info.digest}}
    assert written(accepted) == {
        **{"event": "accepted", "request": "r1", **about, "guards": ["hidden_text"]},
        "sampling": {"max_tokens": 5, "n": 1, "seed": 3, "temperature": 0.5},
        "input": {"sha256": input_digest(request), "characters": 5, "messages": 1},
    }
    digest = hashlib.sha256(b"a b").hexdigest()
    assert 0 <= finished["seconds"] < 60
    assert written(finished) == {
        **{"event": "finished", "request": "r1", **about},
        "usage": {**dataclasses.asdict(usage), "estimated": False},
        "outputs": [
            {"index": 0, "sha256": digest, "characters": 3, "finish_reason": "stop"},
        ],
    }
    assert written(refused) == {
        **{"event": "refused", "request": "r2", **about, "client": "local"},
        "error": {"type": "GuardError", "code": GuardError.code},
        "param": "messages[0]",
    }


async def test_accepted_is_on_disk_before_the_model_is_asked(path: Path) -> None:
    seen: list[list[str]] = []

    def reply(request: Request) -> str:
        seen.append(events(path))
        return "ok"

    await complete(GuardedModel(ScriptedModel([reply]), audit=AuditLog(path)), asked())
    assert seen == [["accepted"]]


async def test_the_last_event_comes_only_after_finished_is_on_disk(path: Path) -> None:
    model = GuardedModel(ScriptedModel(["a b"]), audit=AuditLog(path))
    async for delta in model.stream(asked()):
        assert ("finished" in events(path)) == (delta.usage is not None)


async def test_text_is_not_logged_unless_asked_for(path: Path) -> None:
    model = GuardedModel(ScriptedModel(["the answer is classified"]), audit=AuditLog(path))
    await complete(model, asked("my password is swordfish"))
    log = path.read_text()
    assert "swordfish" not in log
    assert "classified" not in log


async def test_hashes_in_the_record_match_the_text(path: Path) -> None:
    request = asked("question")
    model = GuardedModel(ScriptedModel(["an answer"]), audit=AuditLog(path))
    await complete(model, request)
    first, second = records(path)
    assert first["input"] == {
        "sha256": input_digest(request),
        "characters": len("question"),
        "messages": 1,
    }
    assert second["outputs"][0]["sha256"] == hashlib.sha256(b"an answer").hexdigest()


async def test_text_is_logged_when_asked_for(path: Path) -> None:
    model = GuardedModel(ScriptedModel(["an answer"]), audit=AuditLog(path), keep_content=True)
    await complete(model, asked("question"))
    first, second = records(path)
    assert first["input"]["content"]["messages"][0]["content"] == "question"
    assert second["outputs"][0]["content"] == "an answer"


@pytest.mark.parametrize(("prompt", "kept"), [("a question", "a question"), ((1, 2), [1, 2])])
async def test_a_prompt_is_logged_as_it_was_sent(path: Path, prompt: Any, kept: Any) -> None:
    model = GuardedModel(ScriptedModel(["an answer"]), audit=AuditLog(path), keep_content=True)
    await complete(model, Request(prompt=prompt))
    assert records(path)[0]["input"]["content"] == {"prompt": kept}


@pytest.mark.parametrize("field", ["client", "request_id"])
async def test_of_a_label_that_is_too_long_the_record_keeps_the_beginning(
    path: Path, field: str
) -> None:
    labels = {"client": "c", "request_id": "r"} | {field: "x" * 300}
    model = GuardedModel(ScriptedModel(), audit=AuditLog(path))
    with pytest.raises(InputError, match=f"{field} has 300 characters, at most 256"):
        await complete(model, dataclasses.replace(asked(), **labels))
    (record,) = records(path)
    assert (record["client"], record["request"]) == (
        labels["client"][:256],
        labels["request_id"][:256],
    )
    assert (record["event"], record["param"]) == ("refused", field)


async def test_a_failure_is_recorded_without_its_message(path: Path) -> None:
    model = GuardedModel(ScriptedModel([RemoteError("secret detail")]), audit=AuditLog(path))
    with pytest.raises(RemoteError):
        await complete(model, asked())
    assert records(path)[1]["error"] == {"type": "RemoteError", "code": "upstream_error"}
    assert "secret detail" not in path.read_text()


async def test_a_failure_in_mid_stream_is_recorded_with_what_came_out(path: Path) -> None:
    class Breaks(ScriptedModel):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            yield Delta("half")
            raise RemoteError("connection lost")

    with pytest.raises(RemoteError):
        await complete(GuardedModel(Breaks(), audit=AuditLog(path)), asked())
    record = records(path)[1]
    assert record["event"] == "failed"
    assert record["outputs"][0]["characters"] == 4


async def test_a_client_that_goes_away_is_recorded_and_the_model_is_let_go(path: Path) -> None:
    inner = ScriptedModel(["a b c"])
    await take(GuardedModel(inner, audit=AuditLog(path)), asked(), 2)
    assert inner.open_streams == 0
    assert events(path) == ["accepted", "cancelled"]
    assert records(path)[1]["usage"]["estimated"]


async def test_a_cancelled_task_is_recorded_and_the_model_is_let_go(path: Path) -> None:
    inner = ScriptedModel(["a b c"], delay_s=5)
    task = asyncio.create_task(complete(GuardedModel(inner, audit=AuditLog(path)), asked()))
    while inner.open_streams == 0 and not task.done():
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.open_streams == 0
    assert events(path) == ["accepted", "cancelled"]


async def test_a_task_cancelled_while_accepted_is_written_still_has_an_end(path: Path) -> None:
    class Slow(AuditLog):
        def _append(self, file: int, record: Any) -> str:
            if record["event"] == "accepted":
                started.set()
                time.sleep(0.05)
            return super()._append(file, record)

    started = threading.Event()
    inner = ScriptedModel()
    model = GuardedModel(inner, audit=Slow(path))
    # The second one's record waits behind the first one's when both are cancelled.
    tasks = [asyncio.create_task(complete(model, asked())) for _ in range(2)]
    while not started.is_set():
        await asyncio.sleep(0.001)
    for task in reversed(tasks):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert inner.requests == []
    assert sorted(events(path)) == ["accepted"] * 2 + ["cancelled"] * 2
    assert {r["usage"]["prompt_tokens"] for r in records(path) if "usage" in r} == {0}


# Failing closed.


@pytest.mark.parametrize("error", [StoreError("disk full"), RuntimeError("bug")])
async def test_a_log_that_fails_refuses_before_the_model_is_asked(
    path: Path, error: Exception
) -> None:
    inner = ScriptedModel()
    model = GuardedModel(inner, audit=Failing(path, "accepted", error=error))
    with pytest.raises(StoreError):
        await complete(model, asked())
    assert inner.requests == []


async def test_a_log_that_fails_at_the_end_is_an_error_and_withholds_the_last_event(
    path: Path,
) -> None:
    model = GuardedModel(ScriptedModel(["a b"]), audit=Failing(path, "finished"))
    seen: list[Delta] = []

    async def read() -> None:
        async for delta in model.stream(asked()):
            seen.append(delta)  # noqa: PERF401 (what came before the error is kept)

    with pytest.raises(StoreError, match="disk full"):
        await read()
    assert [delta.text for delta in seen] == ["a", " b", ""]
    assert all(delta.usage is None for delta in seen)


async def test_nothing_is_accepted_until_a_missing_end_is_written(path: Path) -> None:
    audit = Failing(path, "cancelled")
    inner = ScriptedModel(["a b c"])
    model = GuardedModel(inner, audit=audit)
    await take(model, asked(), 1)
    with pytest.raises(StoreError):
        await complete(model, asked())
    assert len(inner.requests) == 1
    audit.failing.clear()
    await complete(model, asked())
    assert events(path) == ["accepted", "cancelled", "accepted", "finished"]


async def test_a_missing_end_holds_up_every_model_that_shares_the_log(path: Path) -> None:
    audit = Failing(path, "cancelled")
    await take(GuardedModel(ScriptedModel(["a b c"]), audit=audit), asked(), 1)
    other = ScriptedModel()
    with pytest.raises(StoreError):
        await complete(GuardedModel(other, audit=audit), asked())
    assert other.requests == []


async def test_a_guard_that_raises_refuses_and_its_message_does_not_leak(path: Path) -> None:
    def broken(text: str) -> list[Finding]:
        raise ValueError(f"cannot read {text}")

    inner = ScriptedModel()
    model = GuardedModel(inner, guards={"broken": broken}, audit=AuditLog(path))
    with pytest.raises(GuardError) as caught:
        await complete(model, asked("swordfish"))
    assert "swordfish" not in str(caught.value) + path.read_text()
    assert inner.requests == []
    assert events(path) == ["refused"]


async def test_a_counter_of_tokens_that_raises_refuses() -> None:
    def broken(request: Request) -> int:
        raise ValueError

    inner = ScriptedModel()
    model = GuardedModel(inner, limits=Limits(tokens_per_minute=99), count_tokens=broken)
    with pytest.raises(GuardError):
        await complete(model, asked())
    assert inner.requests == []


async def test_a_refusal_that_cannot_be_recorded_is_a_store_error(path: Path) -> None:
    model = GuardedModel(
        ScriptedModel(), limits=Limits(max_characters=1), audit=Failing(path, "refused")
    )
    with pytest.raises(StoreError):
        await complete(model, asked())


# Guards and limits.


@pytest.mark.parametrize(
    ("limits", "request_", "param"),
    [
        (Limits(max_characters=10), asked("x" * 11), "messages"),
        (Limits(max_characters=10), Request(prompt="x" * 11), "prompt"),
        (Limits(max_characters=10), Request(prompt=tuple(range(11))), "prompt"),
        (Limits(max_messages=1), Request((Message("user", "a"),) * 2), "messages"),
        (Limits(max_output_tokens=10), asked(max_tokens=11), "max_tokens"),
        (Limits(), Request((Message("user", "a"),), client="c" * 257), "client"),
        (Limits(), Request((Message("user", "a"),), request_id="c" * 257), "request_id"),
    ],
)
async def test_what_is_too_large_is_refused_by_name(
    limits: Limits, request_: Request, param: str
) -> None:
    inner = ScriptedModel()
    with pytest.raises(InputError) as caught:
        await complete(GuardedModel(inner, limits=limits), request_)
    assert caught.value.param == param
    too_long = param in ("messages", "prompt") and limits.max_characters == 10
    assert isinstance(caught.value, ContextLengthError) == too_long
    assert inner.requests == []


async def test_what_just_fits_passes() -> None:
    limits = Limits(max_characters=10, max_messages=1, max_output_tokens=10, tokens_per_minute=100)
    request = dataclasses.replace(asked("x" * 10, max_tokens=10), client="c" * 256)
    model = GuardedModel(ScriptedModel(), limits=limits, count_tokens=lambda _: 90)
    assert await complete(model, dataclasses.replace(request, request_id="r" * 256))


@pytest.mark.parametrize(
    ("prompt_tokens", "expected"), [(None, 100), (10, 100), (8150, 42), (8192, None)]
)
async def test_a_request_that_does_not_say_gets_the_cap_or_what_the_window_has_left(
    prompt_tokens: int | None, expected: int | None
) -> None:
    inner = ScriptedModel()
    count = None if prompt_tokens is None else lambda request: prompt_tokens
    model = GuardedModel(inner, limits=Limits(max_output_tokens=100), count_tokens=count)
    await complete(model, asked())
    assert inner.requests[0].sampling.max_tokens == expected


@pytest.mark.parametrize("text", ["\x1b[2J", "a\x00", "\x9b", "\ud800", "a\U000e0041"])
async def test_text_that_a_guard_finds_something_in_is_refused_and_not_quoted(
    path: Path, text: str
) -> None:
    inner = ScriptedModel()
    model = GuardedModel(inner, audit=AuditLog(path))
    try:
        request = asked("fine " + text)
    except InputError:
        return  # core refuses half a surrogate pair by itself
    with pytest.raises(GuardError) as caught:
        await complete(model, request)
    assert text not in str(caught.value)
    assert caught.value.param == "messages[0]"
    assert (inner.requests, events(path)) == ([], ["refused"])


@pytest.mark.parametrize(
    "text",
    [
        "tabs\tand\r\nlines\x0c\x85",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "👩‍👩‍👧 नमस्ते עברית العربية",
        "\ufeff\u200b",
    ],
    ids=["white space", "flag of England", "joiners", "zero width"],
)
async def test_ordinary_text_passes_every_guard(text: str) -> None:
    assert all(not guard(text) for guard in GUARDS.values())


def test_tag_characters_that_only_follow_a_flag_do_not_pass_as_one() -> None:
    flag = "\U0001f3f4\U000e0067\U000e007f"
    assert GUARDS["hidden_text"](flag + "\U000e0041\U000e0042")
    assert GUARDS["hidden_text"]("\U0001f3f4" + "\U000e0061" * 7 + "\U000e007f")


def test_an_unknown_guard_names_the_nearest() -> None:
    with pytest.raises(InputError, match="control_characters"):
        GuardedModel(ScriptedModel(), guards=["control_chars"])


# Budgets.


def limiter(**limits: Any) -> RateLimiter:
    return RateLimiter(Limits(**limits), clock=lambda: 0.0)


async def test_requests_over_the_rate_are_refused_with_the_time_to_wait() -> None:
    limits = Limits(requests_per_minute=2)
    model = GuardedModel(ScriptedModel(), limits=limits, limiter=limiter(requests_per_minute=2))
    for _ in range(2):
        await complete(model, asked())
    with pytest.raises(OverloadedError) as caught:
        await complete(model, asked())
    assert caught.value.retry_after_s == pytest.approx(30)


async def left(model: GuardedModel, limits: Limits) -> int:
    """Tokens that the client could still take."""
    level: float = model._limiter._clients["local"].tokens.level  # type: ignore[union-attr]
    return round(level)


@pytest.mark.parametrize(
    ("reply", "count", "spent"),
    [
        ("a b c", None, 1 + 3),  # as the model reported
        (RemoteError("down"), None, 0),
        ("a b c", 2, 2 + 2),  # estimated: 5 bytes in, 2 events out
    ],
    ids=["finished", "failed", "cancelled"],
)
async def test_the_budget_is_charged_what_was_used(
    reply: Any, count: int | None, spent: int
) -> None:
    limits = Limits(tokens_per_minute=1000)
    model = GuardedModel(
        ScriptedModel([reply]), limits=limits, limiter=limiter(tokens_per_minute=1000)
    )
    request = asked("hello", max_tokens=100)
    if count is not None:
        await take(model, request, count)
    elif isinstance(reply, str):
        await complete(model, request)
    else:
        with pytest.raises(RemoteError):
            await complete(model, request)
    assert await left(model, limits) == 1000 - spent


async def test_a_request_refused_by_a_guard_costs_no_tokens() -> None:
    limits = Limits(tokens_per_minute=1000)
    model = GuardedModel(ScriptedModel(), limits=limits, limiter=limiter(tokens_per_minute=1000))
    with pytest.raises(GuardError):
        await complete(model, asked("\x00", max_tokens=10))
    assert await left(model, limits) == 1000


async def test_a_budget_without_any_bound_on_the_output_refuses() -> None:
    class Remote(ScriptedModel):
        def __init__(self) -> None:
            super().__init__()
            self.info = ModelInfo("remote")

    model = GuardedModel(Remote(), limits=Limits(tokens_per_minute=1000))
    with pytest.raises(InputError, match="max_tokens"):
        await complete(model, asked())


async def test_concurrent_streams_never_hold_more_than_the_budget() -> None:
    running, most = 0, 0

    class Watched(ScriptedModel):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            yield Delta("x", finish_reason="stop")
            yield Delta(usage=Usage(50, 100))

    limits = Limits(tokens_per_minute=1000, requests_per_minute=None)
    model = GuardedModel(
        Watched(),
        limits=limits,
        limiter=RateLimiter(limits, clock=lambda: 0.0),
        count_tokens=lambda request: 50,
    )
    results = await asyncio.gather(
        *(complete(model, asked(max_tokens=100)) for _ in range(40)), return_exceptions=True
    )
    assert most == 6  # 6 x 150 <= 1000 < 7 x 150
    assert sum(isinstance(r, OverloadedError) for r in results) == 34


# Refusals in the log.


async def test_a_client_refused_again_and_again_leaves_one_record_and_a_count(path: Path) -> None:
    model = GuardedModel(
        ScriptedModel(), limits=Limits(max_characters=5), audit=AuditLog(path, fsync=False)
    )
    for _ in range(5):
        with pytest.raises(InputError):
            await complete(model, asked("too long"))
    await complete(model, asked("ok"))
    assert events(path) == ["refused", "accepted", "finished"]
    assert records(path)[1]["refusals_left_out"] == 4


async def test_forty_streams_at_once_leave_one_chain_with_two_records_each(path: Path) -> None:
    model = GuardedModel(ScriptedModel(["a b"]), audit=AuditLog(path, fsync=False))
    await asyncio.gather(*(complete(model, asked()) for _ in range(40)))
    report = verify(path)
    assert (report.ok, report.records) == (True, 81)


async def test_another_model_behind_the_same_guards_goes_on_with_their_counts(path: Path) -> None:
    limits = Limits(requests_per_minute=2)
    first, second = ScriptedModel(["one"], name="one"), ScriptedModel(["two"], name="two")
    guarded = GuardedModel(first, audit=AuditLog(path), limits=limits)
    other = guarded.around(second)
    assert (await complete(guarded, asked())).text == "one"
    assert (await complete(other, asked())).text == "two"
    for each in (guarded, other):
        with pytest.raises(OverloadedError):
            await complete(each, asked())
    told = [(each["event"], each["model"]["name"]) for each in records(path)]
    ends = [(event, name) for name in ("one", "two") for event in ("accepted", "finished")]
    assert told == [*ends, ("refused", "one")]
