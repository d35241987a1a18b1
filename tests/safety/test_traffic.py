"""A canary: its share, who stays with it, what falls back, and what is recorded of all that."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scripted_versions import BreakingModel, asked, digest_of, version

from lmstack.core import (
    Delta,
    EngineError,
    InputError,
    Message,
    ModelInfo,
    OverloadedError,
    Request,
    ScriptedModel,
    complete,
)
from lmstack.safety import AuditLog, Canary, CanaryModel, GuardedModel, Observation
from lmstack.safety.traffic import ArmDelta, by_conversation, by_request, in_share

ALWAYS = 1 - 1e-12


class Split:
    """A stable version and a canary, with what was observed."""

    def __init__(self, candidate: object, share: float = ALWAYS, **options: float) -> None:
        self.seen: list[Observation] = []
        self.stable = version("stable", ["from stable"])
        self.canary = Canary(candidate, share, observe=self.seen.append, **options)  # type: ignore[arg-type]
        self.model = CanaryModel(self.stable, self.canary)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(each.arm.name, each.outcome) for each in self.seen]


@pytest.mark.parametrize("salt", ["", "sha256:a"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.93])
def test_the_share_is_within_binomial_bounds(share: float, salt: str) -> None:
    count = 5000
    taken = sum(in_share(f"unit {number}", share, salt) for number in range(count))
    # Five standard errors: one in 3 million.
    assert abs(taken - share * count) <= 5 * math.sqrt(count * share * (1 - share)) + 1


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_the_smaller(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert in_share(unit, high, "s") or not in_share(unit, low, "s")


def test_candidates_are_drawn_independently() -> None:
    units = [str(number) for number in range(4000)]
    both = sum(in_share(unit, 0.5, "a") and in_share(unit, 0.5, "b") for unit in units)
    assert 850 <= both <= 1150


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.text(max_size=10))
def test_a_conversation_stays_with_one_version(turns: list[str], client: str) -> None:
    messages = [Message("system", "be kind"), Message("user", turns[0])]
    first = by_conversation(Request(tuple(messages), client=client))
    for turn in turns[1:]:
        messages += [Message("assistant", "yes"), Message("user", turn)]
    assert by_conversation(Request(tuple(messages), client=client)) == first


def test_the_same_words_of_another_client_are_another_conversation() -> None:
    assert by_conversation(asked("hello", "a")) != by_conversation(asked("hello", "b"))


def test_raw_prompts_of_one_request_stay_together() -> None:
    one, other = (Request(prompt=text, request_id="r1") for text in ("a", "b"))
    assert by_conversation(one) == by_conversation(other) == by_request(one)
    assert by_conversation(Request(prompt="a")) != by_conversation(Request(prompt="b"))


async def test_both_versions_answer_and_each_answer_names_its_digest() -> None:
    candidate = version("candidate", ["from candidate"])
    split = Split(candidate, 0.5)
    answers = [await complete(split.model, asked(str(number))) for number in range(40)]
    texts = {(answer.text, answer.model.digest) for answer in answers}
    assert texts == {
        ("from stable", digest_of("stable")),
        ("from candidate", digest_of("candidate")),
    }
    assert len(split.stable.requests) + len(candidate.requests) == 40
    assert sum(arm == "canary" for arm, _ in split.outcomes) == len(candidate.requests)


@pytest.mark.parametrize("error", [EngineError("down"), OverloadedError("full"), None])
async def test_a_failure_before_the_first_token_falls_back(error: EngineError | None) -> None:
    split = Split(BreakingModel() if error is None else version("candidate", [error]))
    answer = await complete(split.model, asked("hello"))
    assert (answer.text, answer.model.digest) == ("from stable", digest_of("stable"))
    # The answer in its place is in neither arm: nobody drew lots for it.
    assert split.outcomes == [("canary", "failed")]
    assert split.canary.num_fallbacks == 1


async def test_a_failure_after_the_first_token_is_passed_on() -> None:
    split = Split(BreakingModel(["half", " an"]))
    stream = split.model.stream(asked("hello"))
    assert [(await anext(stream)).text for _ in range(2)] == ["half", " an"]
    with pytest.raises(EngineError):
        await anext(stream)
    assert split.outcomes == [("canary", "failed")]
    assert not split.stable.requests
    assert split.seen[0].error == "EngineError"


async def test_a_candidate_that_says_nothing_in_time_falls_back() -> None:
    candidate = version("candidate", ["late"], delay_s=30)
    split = Split(candidate, first_token_s=0.01)
    assert (await complete(split.model, asked("hello"))).text == "from stable"
    assert candidate.open_streams == 0
    assert split.seen[0].error == "TimeoutError"


async def test_what_both_refuse_is_nobodys_failure() -> None:
    split = Split(version("candidate", [InputError("no")]))
    split.model = CanaryModel(version("stable", [InputError("no")]), split.canary)
    with pytest.raises(InputError):
        await complete(split.model, asked("hello"))
    assert split.outcomes == [("canary", "refused")]


async def test_what_only_the_candidate_refuses_is_its_failure() -> None:
    split = Split(version("candidate", [InputError("too long for me")]))
    await complete(split.model, asked("hello"))
    assert split.outcomes == [("canary", "failed")]


async def test_a_client_that_leaves_cancels_the_version_that_answers() -> None:
    candidate = version("candidate", ["one two three"])
    split = Split(candidate)
    stream = split.model.stream(asked("hello"))
    await anext(stream)
    assert candidate.open_streams == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert candidate.open_streams == 0
    assert split.outcomes == [("canary", "cancelled")]


async def test_a_client_that_leaves_before_the_first_token_asks_nobody_else() -> None:
    candidate = version("candidate", ["late"], delay_s=30)
    split = Split(candidate)
    task = asyncio.ensure_future(complete(split.model, asked("hello")))
    while not candidate.open_streams:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert candidate.open_streams == 0
    assert not split.stable.requests
    assert split.outcomes == [("canary", "cancelled")]


async def test_a_stopped_canary_is_not_asked() -> None:
    candidate = version("candidate")
    split = Split(candidate)
    split.canary.stop("it fails")
    assert (await complete(split.model, asked("hello"))).text == "from stable"
    assert not candidate.requests
    assert not split.seen
    split.canary.stop("once more")
    assert split.canary.stopped == "it fails"


async def test_an_observer_that_raises_fails_no_answer() -> None:
    def observe(_: Observation) -> None:
        raise OSError("disk full")

    model = CanaryModel(version("stable"), Canary(version("candidate"), 0.5, observe=observe))
    for number in range(8):
        assert (await complete(model, asked(str(number)))).text == "ok"


async def test_an_observation_holds_what_was_said_and_used() -> None:
    split = Split(version("candidate", ["one two three"]))
    await complete(split.model, asked("hello there"))
    [seen] = split.seen
    assert (seen.text, seen.finish_reason, seen.error) == ("one two three", "stop", "")
    assert (seen.usage.prompt_tokens, seen.usage.completion_tokens) == (2, 3)
    assert seen.first_token_s is not None
    assert 0 <= seen.first_token_s <= seen.total_s


class Nameless:
    """As a model elsewhere: no digest."""

    info = ModelInfo("openai:m")

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Delta("x", finish_reason="stop")


async def test_a_version_without_a_digest_does_not_borrow_that_of_the_other() -> None:
    split = Split(Nameless())
    assert (await complete(split.model, asked("hello"))).model.digest == "model:openai:m"


async def test_the_digest_of_exchanged_weights_is_kept() -> None:
    class Exchanged(Nameless):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            yield Delta("x", finish_reason="stop", digest="sha256:new")

    split = Split(Exchanged())
    deltas = [delta async for delta in split.model.stream(asked("hello"))]
    assert isinstance(deltas[0], ArmDelta)
    assert deltas[0].arm is not None
    assert deltas[0].arm.digest == "sha256:new"


@pytest.mark.parametrize("share", [0.0, 1.0, -1, float("nan")])
def test_a_share_that_compares_nothing_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        Canary(ScriptedModel(), share)


@pytest.mark.parametrize(
    ("candidate", "accepted", "finished"),
    [
        (version("candidate"), ("canary", "candidate"), ("canary", "candidate")),
        (BreakingModel(), ("canary", "breaking"), ("fallback", "stable")),
    ],
)
async def test_the_audit_records_say_which_version_and_arm(
    tmp_path: Path,
    candidate: object,
    accepted: tuple[str, str],
    finished: tuple[str, str],
) -> None:
    path = tmp_path / "audit.jsonl"
    split = Split(candidate)
    await complete(GuardedModel(split.model, audit=AuditLog(path, fsync=False)), asked("hello"))
    records = [json.loads(line) for line in path.read_bytes().splitlines()][1:]
    assert [record["event"] for record in records] == ["accepted", "finished"]
    for record, (arm, name) in zip(records, (accepted, finished), strict=True):
        assert record["arm"] == arm
        assert record["model"] == {"name": name, "digest": digest_of(name)}
