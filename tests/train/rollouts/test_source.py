"""What the samples of a step are like, by hand, and how a checkpoint holds those drawn ahead."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from tests.errors import about
from tests.train import tiny

from lmstack.core import InputError, Message
from lmstack.train.data.examples import Batch
from lmstack.train.rollouts.experience import (
    Rollout,
    batch_of,
    is_worth_sharing,
    passes_of,
    sample_seed,
)
from lmstack.train.rollouts.protocol import RolloutPrompt, RolloutSample
from lmstack.train.rollouts.source import (
    RolloutSource,
    _check_dropout,
    _packed,
    _unpacked,
    facts_of,
)

ASKED = (Message("user", "?"),)


def rollout(
    group: int,
    reward: float,
    tokens: int,
    finish: Literal["stop", "length"] = "stop",
    prompt: int = 2,
    **scores: float,
) -> Rollout:
    ids, logprobs = tuple(range(3, 3 + tokens)), (-0.1,) * tokens
    sample = RolloutSample(ASKED, tuple(range(100, 100 + prompt)), ids, logprobs, "text", finish)
    return Rollout.of(sample, group, reward, scores)


def test_what_a_step_drew_is_said_of_answers_and_of_prompts() -> None:
    drawn = [
        rollout(0, 1.0, 4, a=1.0, b=0.0),
        rollout(0, 3.0, 2, "length", a=2.0, b=1.0),
        rollout(7, 5.0, 3, a=3.0, b=2.0),
        rollout(7, 5.0, 3, "length", a=4.0, b=3.0),
    ]
    assert facts_of(drawn) == {
        **{"reward": 3.5, "reward_a": 2.5, "reward_b": 1.5, "reward_spread": 0.5},
        **{"flat_groups": 0.5, "answer_tokens": 3.0, "cut": 0.5, "prompts": 2.0},
    }


def test_samples_drawn_ahead_are_the_same_from_a_checkpoint() -> None:
    prompts = [RolloutPrompt(ASKED, (1, 2), {"answer": n}) for n in range(2)]
    groups = [
        [
            RolloutSample(
                p.messages, p.ids, (5, n), (-0.1, float(torch.tensor(-0.3))), "\u00e4", end, p.row
            )
            for n, end in enumerate(("stop", "length"))
        ]
        for p in prompts
    ]
    held = _packed(groups)  # type: ignore[arg-type]
    assert held.dtype == torch.uint8

    assert _unpacked(json.loads(held.numpy().tobytes()), prompts) == groups


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"dropout": 0.1}, "dropout"), ({"lora": {"r": 2, "dropout": 0.1}}, "lora.dropout")],
)
def test_answers_are_drawn_without_dropout_and_learned_from_without(
    changes: dict[str, Any], name: str
) -> None:
    with pytest.raises(InputError, match=f"^{name} is 0.1, and", check=about(name)) as error:
        _check_dropout(tiny.recipe(**changes))
    assert error.value.hint == f"{name}=0"
    _check_dropout(tiny.recipe(dropout=0, lora={"r": 2}))
    _check_dropout(tiny.recipe(dropout=0))


def test_a_seed_follows_from_the_run_and_the_place_alone() -> None:
    seeds = [sample_seed(0, 1, 2), sample_seed(0, 2, 1), sample_seed(1, 1, 2), sample_seed(0, 1)]
    assert len({*seeds, sample_seed(0, 1, 2)}) == 4
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert sample_seed(2**64 + 5, 1) == sample_seed(5, 1)
    assert sample_seed(-1, 1) == sample_seed(2**64 - 1, 1)
    assert sample_seed(0, 1, 2) == 8901564848246840783  # in every version


def test_passes_hold_up_to_their_tokens_the_shortest_first() -> None:
    drawn = [rollout(n, 0.0, tokens) for n, tokens in enumerate((6, 2, 4, 30, 3))]
    passes = passes_of(drawn, 12)
    assert [[each.length + 2 for each in part] for part in passes] == [[4, 5], [6], [8], [32]]
    assert [len(part) for part in passes_of(drawn, 15)] == [3, 1, 1]
    # Of answers to one prompt those of a pass read it once: 2 tokens, and 1 + n an answer.
    shared = [rollout(0, 0.0, 4) for _ in range(3)] + [rollout(1, 0.0, 4)]
    assert [len(part) for part in passes_of(shared, 16, share=True)] == [3, 1]
    assert [len(part) for part in passes_of(shared, 15, share=True)] == [2, 2]
    assert [len(part) for part in passes_of(shared, 22, share=True)] == [4]
    mixed = [rollout(group, 0.0, 4) for group in (0, 1, 0, 1)]
    assert [[each.group for each in part] for part in passes_of(mixed, 22, share=True)] == [
        [0, 0, 1, 1]
    ]


@pytest.mark.parametrize(("prompt", "is_worth"), [(15, True), (8, True), (7, False), (2, False)])
def test_long_prompts_are_worth_reading_once(prompt: int, is_worth: bool) -> None:
    """Two answers of 8 tokens: of 46 tokens 32 are read, of 32 there are 25, of 30 24, of 20 19;
    worth it is less than four fifths."""
    drawn = [rollout(0, 0.0, 8, prompt=prompt) for _ in range(2)]
    assert is_worth_sharing(drawn) == is_worth


@pytest.mark.parametrize("share", [False, True])
def test_a_batch_has_the_answers_tokens_and_what_is_known_of_them(share: bool) -> None:
    drawn = [
        rollout(n, float(n), 2 + n, prompt=3).knowing(x=torch.full((2 + n,), n)) for n in (0, 1)
    ]
    batch = batch_of(drawn, 7.0, share=share)
    assert batch.labels[batch.labels >= 0].tolist() == [3, 4, 3, 4, 5]
    assert batch.tokens == len(batch.labels) == sum(batch.inputs["lengths"])
    assert batch.inputs["lengths"] == ([2, 2, 3, 4] if share else [5, 6])
    before, last = [100, 101], [102]
    own = [[*last, *each.sample.ids] for each in drawn]
    read = [*before, *before, *own[0], *own[1]] if share else [*before, *own[0], *before, *own[1]]
    assert batch.inputs["input_ids"].tolist() == read
    assert batch.labels.dtype == torch.int64
    assert batch_of(drawn[:1], 1.0, share=share).more["sampled"].dtype == torch.float32
    assert batch.inputs.get("continues") == ([0, 1] if share else None)
    assert (batch.weight, batch.more["lengths"].tolist()) == (7.0, [2, 3])
    assert batch.more["rewards"].tolist() == [0, 1]
    assert batch.more["x"].tolist() == [0, 0, 1, 1, 1]
    assert batch.more["sampled"].tolist() == pytest.approx([-0.1] * 5)
    same = [drawn[0], replace(drawn[1], group=0)]
    if share:
        assert batch_of(same, 1.0, share=True).inputs["continues"] == [0, 0]


class Part:
    """A process of a run, as far as sharing work goes: what has a reward teaches."""

    def __init__(self, rank: int, world: int, **config: Any) -> None:
        config = {"causal": True, "position_pad": None, **config}
        device = torch.device("meta")
        self.trained = SimpleNamespace(
            parallel=SimpleNamespace(rank=rank, world=world),
            recipe=SimpleNamespace(micro_tokens=24),
            module=SimpleNamespace(
                device=device, config=SimpleNamespace(**config), eval=lambda: None
            ),
            model=None,
            ops=None,
        )
        self.objective = SimpleNamespace(weight=lambda r: float(len(r)), teaches=lambda r: r.reward)

    _batches, _known = RolloutSource._batches, RolloutSource._known
    _share, _shares = RolloutSource._share, RolloutSource._shares


def test_processes_share_the_passes_and_each_counts_once() -> None:
    """Three passes for two: the second has one that it only keeps up with."""
    drawn = [rollout(n, float(n < 3), 8, prompt=15) for n in range(5)]
    shares: list[Any] = [
        (1, [[23, 23, 23]], [[3.0, 1.0, 1.0]]),
        (2, [[23, 23], [23, 0]], [[3.0, 1.0], [1.0, 0.0]]),
    ]
    for world, sizes, wanted in shares:
        made = [Part(rank, world)._batches(drawn) for rank in range(world)]  # type: ignore[misc]
        assert [[batch.tokens for batch in part] for part in made] == sizes
        weights = [[batch.weight for batch in part] for part in made]
        # The two that teach nothing are counted with the first.
        assert weights == wanted
        assert {batch.labels.device.type for part in made for batch in part} == {"meta"}


def test_answers_go_on_from_one_reading_where_the_model_allows_it() -> None:
    drawn = [rollout(0, 1.0, 2, prompt=15) for _ in range(4)]
    settings: list[dict[str, Any]] = [{}, {"causal": False}, {"position_pad": 1}]
    shared = [Part(0, 1, **each)._batches(drawn) for each in settings]  # type: ignore[misc]
    assert [["continues" in batch.inputs for batch in made] for made in shared] == [
        *([True, True], [False] * 4, [False] * 4)
    ]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_is_measured_of_a_token_is_known_of_its_answer_in_every_process(world: int) -> None:
    """Here its id, of answers that are read in five passes."""
    drawn = [rollout(n // 2, 1.0, n % 4 + 1, prompt=15) for n in range(10)]
    joined: list[Any] = []
    shared: list[bool] = []

    def measured(_model: object, batch: Batch, _context: object) -> dict[str, torch.Tensor]:
        shared.append("continues" in batch.inputs)
        return {"id": batch.labels[batch.labels >= 0].float()}

    def known(rank: int, meet: Any) -> list[Rollout]:
        part: Any = Part(rank, world)
        part.trained.module.device, part.trained.parallel.joined = torch.device("cpu"), meet
        found: list[Rollout] = part._known(drawn, measured)
        return found

    for rank in range(world):  # what each would give the others
        with pytest.raises(ZeroDivisionError):
            known(rank, lambda own: joined.extend(own) or 1 / 0)
    for rank in range(world):
        found = known(rank, lambda _: joined)
        assert [each.sample for each in found] == [each.sample for each in drawn]
        assert [each.tokens["id"].tolist() for each in found] == [[*e.sample.ids] for e in drawn]
    assert len(joined) == 5
    assert all(shared)
