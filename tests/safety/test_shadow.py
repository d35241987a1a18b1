"""A shadow is never waited for: it yields, is bounded, and says what it left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.scripted_versions import BreakingModel, asked, digest_of, version

from lmstack.core import ChatModel, EngineError, Request, SamplingParams, StoreError, complete
from lmstack.safety import Arm, Observation, Shadow, ShadowBounds, ShadowModel


class Shadowed:
    def __init__(
        self,
        candidate: ChatModel,
        share: float = 1.0,
        admit: Callable[[Request, Arm], None] = lambda *_: None,
        **bounds: Any,
    ) -> None:
        self.pairs: list[tuple[Observation, Observation]] = []
        self.dropped: list[str] = []
        self.stable = version("stable", ["from stable"])
        self.shadow = Shadow(
            candidate,
            share,
            admit=admit,
            observe=lambda one, other: self.pairs.append((one, other)),
            dropped=self.dropped.append,
            bounds=ShadowBounds(**{"yields": False, **bounds}),
        )
        self.model = ShadowModel(self.stable, self.shadow)

    async def ask(self, text: str = "hello", **sampling: Any) -> str:
        return (await complete(self.model, asked(text, sampling=SamplingParams(**sampling)))).text

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.001)


async def test_everyone_gets_the_stable_answer_and_the_candidate_is_asked_the_same() -> None:
    candidate = version("candidate", ["from candidate"])
    both = Shadowed(candidate)
    assert await both.ask() == "from stable"
    await both.until(lambda: bool(both.pairs))
    [(one, other)] = both.pairs
    assert (one.arm.name, one.text) == ("stable", "from stable")
    assert (other.arm.name, other.text) == ("shadow", "from candidate")
    assert other.arm.digest == digest_of("candidate")
    assert one.number == other.number
    assert candidate.requests[0].messages == both.stable.requests[0].messages


async def test_an_answer_is_not_kept_waiting_by_a_slow_candidate() -> None:
    candidate = version("candidate", ["late"], delay_s=30)
    both = Shadowed(candidate)
    start = time.monotonic()
    for number in range(5):
        await both.ask(str(number))
    assert time.monotonic() - start < 10
    await both.until(lambda: candidate.open_streams == 1)
    both.shadow.close()
    await both.until(lambda: candidate.open_streams == 0)
    assert both.dropped == ["the server stopped"] * 5


async def test_a_candidate_that_fails_is_observed_and_nobody_hears_of_it() -> None:
    both = Shadowed(BreakingModel(["half"]))
    assert await both.ask() == "from stable"
    await both.until(lambda: bool(both.pairs))
    assert (both.pairs[0][1].outcome, both.pairs[0][1].error) == ("failed", "EngineError")


async def test_what_cannot_be_recorded_beforehand_is_not_sent() -> None:
    candidate, told = version("candidate", ["from candidate"]), []

    def admit(request: Request, arm: Arm) -> None:
        told.append((request.messages[-1].content, arm.model))
        if request.messages[-1].content == "secret":
            raise StoreError("the disk is full")

    both = Shadowed(candidate, admit=admit)
    assert await both.ask("secret") == "from stable"
    await both.until(lambda: bool(both.dropped))
    assert both.dropped == ["it could not be recorded"]
    assert candidate.requests == []
    await both.ask("hello")
    await both.until(lambda: bool(both.pairs))
    assert told == [("secret", "candidate"), ("hello", "candidate")]


async def test_what_the_stable_version_fails_at_is_compared_too() -> None:
    both = Shadowed(version("candidate"))
    both.model = ShadowModel(BreakingModel(), both.shadow)
    with pytest.raises(EngineError):
        await both.ask()
    await both.until(lambda: bool(both.pairs))
    assert [each.outcome for each in both.pairs[0]] == ["failed", "answered"]


async def test_a_full_queue_drops_and_counts() -> None:
    both = Shadowed(version("candidate", ["late"], delay_s=30), queue=2)
    for number in range(6):
        await both.ask(str(number))
        await asyncio.sleep(0)
    assert both.shadow.num_waiting <= 2
    assert both.dropped == ["the queue is full"] * (6 - 2 - 1)
    assert both.shadow.dropped.total() == 3
    both.shadow.close()


async def test_the_tokens_of_a_shadow_are_bounded() -> None:
    candidate = version("candidate", ["a b c d e f"])
    both = Shadowed(candidate, max_tokens=3)
    await both.ask()
    await both.until(lambda: bool(both.pairs))
    assert both.pairs[0][1].usage.completion_tokens == 3
    await both.ask(max_tokens=2)
    await both.until(lambda: len(both.pairs) == 2)
    assert candidate.requests[1].sampling.max_tokens == 2


async def test_what_is_offered_in_any_turn_of_the_loop_is_asked() -> None:
    """Such as that in which the worker ends, whom the answer before had kept."""
    for turns in range(12):
        both = Shadowed(version("candidate"))
        await both.ask()
        while not both.pairs:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await both.ask()
        await both.until(lambda both=both: len(both.pairs) == 2)


async def test_answers_and_prompts_over_the_bounds_are_left_out() -> None:
    both = Shadowed(version("candidate"), max_tokens=1, max_characters=10)
    await both.ask()  # the stable answer has two tokens
    await both.ask("x" * 11, max_tokens=1)
    assert both.dropped == ["the answer is too long", "the prompt is too long"]


async def test_a_client_that_leaves_is_not_shadowed() -> None:
    both = Shadowed(version("candidate"))
    stream = both.model.stream(asked("hello"))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert both.dropped == ["the request was cancelled"]
    assert both.stable.open_streams == 0


async def test_a_candidate_on_the_same_processor_waits_until_nobody_does() -> None:
    candidate = version("candidate")
    both = Shadowed(candidate, yields=True)
    other = both.model.stream(asked("a long answer"))
    await anext(other)
    await both.ask()
    await asyncio.sleep(0.1)
    assert not candidate.requests
    async for _ in other:
        pass
    await both.until(lambda: len(both.pairs) == 2)


async def test_a_shadow_leaves_off_when_a_request_comes_and_begins_again() -> None:
    candidate = version("candidate", ["one two three"], delay_s=0.05)
    both = Shadowed(candidate, yields=True)
    await both.ask("first")
    await both.until(lambda: candidate.open_streams == 1)
    stream = both.model.stream(asked("second"))
    await anext(stream)
    await both.until(lambda: candidate.open_streams == 0)
    assert not both.pairs
    async for _ in stream:
        pass
    await both.until(lambda: len(both.pairs) == 2)
    assert [pair[1].text for pair in both.pairs] == ["one two three"] * 2
    assert len(candidate.requests) == 3


async def test_a_shadow_that_is_always_interrupted_is_dropped() -> None:
    candidate = version("candidate", ["one two three"], delay_s=5)
    both = Shadowed(candidate, yields=True, tries=2)
    await both.ask("first")
    for _ in range(2):
        await both.until(lambda: candidate.open_streams == 1)
        stream = both.model.stream(asked("again"))
        await anext(stream)
        await both.until(lambda: candidate.open_streams == 0)
        await stream.aclose()  # type: ignore[attr-defined]
    await both.until(lambda: "interrupted too often" in both.dropped)
    assert not both.pairs


async def test_a_shadow_takes_no_longer_than_it_may() -> None:
    both = Shadowed(version("candidate", ["late"], delay_s=30), seconds=0.01)
    await both.ask()
    await both.until(lambda: bool(both.pairs))
    assert (both.pairs[0][1].outcome, both.pairs[0][1].error) == ("failed", "TimeoutError")


async def test_only_the_share_is_shadowed() -> None:
    both = Shadowed(version("candidate"), share=0.3, queue=1000)
    for number in range(200):
        await both.ask(str(number))
    assert 35 <= both.shadow.num_offered <= 85


async def test_an_observer_that_raises_ends_nothing() -> None:
    both = Shadowed(version("candidate"))

    def observe(*_: Observation) -> None:
        raise OSError("disk full")

    both.shadow._observe = observe
    await both.ask()
    await both.until(lambda: both.shadow.num_answered == 1)
    assert await both.ask() == "from stable"
