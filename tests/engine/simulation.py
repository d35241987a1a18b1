"""An engine without a model on a clock without time: what a step costs is a formula, so hours of
load pass in seconds and every run is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.engine.conftest import byte_vocabulary

from lmstack.core import SamplingParams
from lmstack.engine import EngineConfig, EngineRequest
from lmstack.engine.blocks import BlockManager
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.sequence import Sequence

VOCABULARY = byte_vocabulary()


@dataclass(frozen=True)
class Machine:
    """Seconds of a step. The defaults are about those of a 135M model in int8 on two cores."""

    fixed: float = 0.005
    token: float = 1 / 2000
    place: float = 1 / 30_000_000
    stream: float = 1 / 4000

    def seconds(self, tokens: int, streams: int, places: float) -> float:
        return self.fixed + self.token * tokens + self.stream * streams + self.place * places


@dataclass
class Job:
    """``times``: when each of its tokens came."""

    arrival: float
    num_prompt: int
    num_output: int
    client: str = ""
    priority: int = 0
    times: list[float] = field(default_factory=list)

    @property
    def first_token_s(self) -> float:
        return self.times[0] - self.arrival

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


class Simulation:
    def __init__(self, machine: Machine | None = None, seed: int = 0, **settings: object) -> None:
        values = {"num_blocks": 4000} | settings
        self.config = EngineConfig.from_mapping(values)
        blocks = BlockManager(values["num_blocks"], self.config.block_size)  # type: ignore[arg-type]
        self.scheduler = Scheduler(self.config, blocks)
        self._machine = machine or Machine()
        self._rng = random.Random(seed)
        self.now = 0.0
        self.num_tokens = 0
        self._jobs: dict[int, Job] = {}

    def add(self, job: Job) -> None:
        # Different from all others, so that nothing is shared by accident.
        prompt = [self._rng.randrange(250) for _ in range(job.num_prompt)]
        params = SamplingParams(max_tokens=job.num_output, ignore_eos=True, priority=job.priority)
        request = EngineRequest(str(id(job)), tuple(prompt), print, params, client=job.client)
        sequence = Sequence(request, VOCABULARY, job.num_prompt + job.num_output)
        self._jobs[id(sequence)] = job
        self.scheduler.add(sequence)

    def step(self) -> list[Job]:
        """Those that are over after it."""
        chunks = self.scheduler.schedule()
        places = sum((c.start + c.end + 1) / 2 * c.count for c in chunks)
        tokens, streams = sum(c.count for c in chunks), sum(c.samples for c in chunks)
        seconds = self._machine.seconds(tokens, streams, places)
        seconds *= self._rng.lognormvariate(0, 0.1)
        self.now += seconds
        over = []
        for chunk in chunks:
            self.scheduler.computed(chunk)
            if chunk.samples:
                job = self._jobs[id(chunk.sequence)]
                job.times.append(self.now)
                self.num_tokens += 1
                if chunk.sequence.append(1) is not None:
                    self.scheduler.remove(chunk.sequence)
                    over.append(self._jobs.pop(id(chunk.sequence)))
        self.scheduler.budget.observe(seconds)
        return over

    def run(self, jobs: Iterator[Job] | list[Job]) -> list[Job]:
        """Every job as it arrives, until all are over."""
        seen = []
        coming = iter(jobs)
        following = next(coming, None)
        while following is not None or not self.scheduler.idle:
            if following is not None and self.scheduler.idle:
                self.now = max(self.now, following.arrival)
            while following is not None and following.arrival <= self.now:
                seen.append(following)
                self.add(following)
                following = next(coming, None)
            self.step()
        return seen

    def saturate(self, make: Callable[[], Job], streams: int, requests: int) -> float:
        """Requests a second with ``streams`` always open."""
        for _ in range(streams):
            self.add(make())
        start, done = self.now, 0
        while done < requests:
            for _ in self.step():
                done += 1
                self.add(make())
        return requests / (self.now - start)
