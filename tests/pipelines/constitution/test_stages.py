"""What models are asked, what becomes of answers that are of no use, and the record of a run."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.pipelines.constitution.conftest import PROMPTS, Judge, Said, Writer, Writers

from lmstack.core import ContextLengthError, Delta, InputError, NotFoundError, Request
from lmstack.pipelines.constitution.datasets import DatasetRows
from lmstack.pipelines.constitution.labels import PairLabel, PrincipleVerdict
from lmstack.pipelines.constitution.principles import read_constitution
from lmstack.pipelines.constitution.prompts import as_json, read_prompts
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.pipelines.constitution.record import read_record
from lmstack.pipelines.constitution.run import PipelineWatch, run_constitution
from lmstack.pipelines.constitution.stage import digest_of, seed_of, write_stage
from lmstack.pipelines.constitution.stages import Stages, _verdict, labels_of, pair_texts, texts_of

Make = Callable[..., ConstitutionalRecipe]


def stages(recipe: ConstitutionalRecipe, models: Any) -> Stages:
    prompts = read_prompts(recipe.data)
    return Stages(recipe, read_constitution(), prompts, models, PipelineWatch().stage)


class Remote(Writers):
    """Models whose weights nobody knows; ``reply`` takes the place of the third answer."""

    def __init__(self, reply: str | Exception) -> None:
        super().__init__()
        self._reply = reply

    def open(self, name: str) -> Writer:
        writer, asked, reply = super().open(name), self.asked, self._reply
        writer.info = replace(writer.info, digest=None)
        stream = writer.stream

        async def streamed(request: Request) -> AsyncIterator[Delta]:
            third = len(asked) == 2
            async for delta in stream(request):
                if third and isinstance(reply, Exception):
                    raise reply
                yield replace(delta, text=str(reply) * bool(delta.text)) if third else delta

        writer.stream = streamed  # type: ignore[method-assign]
        return writer


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (" \n", "the answer is empty"),
        (ContextLengthError("the prompt has 9 tokens"), "the prompt has 9 tokens"),
    ],
)
def test_an_answer_of_no_use_keeps_its_reason_and_is_not_criticized(
    reply: str | Exception, problem: str, recipe: Make
) -> None:
    models = Remote(reply)
    settings = recipe(f"remote-{len(problem)}", at_once=1)
    made = stages(settings, models)
    drafts = made.drafts()
    header = json.loads((settings.folder / "drafts.jsonl").read_text().partition("\n")[0])
    assert header["model"] == "base"  # its name, where nobody knows its weights
    assert [item.get("problem") for item in drafts.values()].count(problem) == 1
    assert len(made.critiques(1, texts_of(drafts))) == PROMPTS - 1
    if isinstance(reply, Exception):
        again = stages(recipe("remote-answers", at_once=1), Remote(reply)).answers()
        assert [item for item in again.values() if "texts" not in item] == [{"problem": problem}]
    # A provider may take no seed, and it would make nothing the same.
    assert {request.sampling.seed for request in models.asked} == {None}


def test_each_stage_asks_for_as_much_as_its_recipe_says(recipe: Make) -> None:
    models = Writers()
    made = stages(recipe("lengths", answer_tokens=7, critique_tokens=9), models)
    longest: list[set[int | None]] = []

    def asked_for(items: Any) -> Any:
        longest.append({request.sampling.max_tokens for request in models.asked})
        models.asked.clear()
        return items

    drafts = asked_for(made.drafts())
    critiques = asked_for(made.critiques(1, texts_of(drafts)))
    revisions = asked_for(made.revisions(1, texts_of(drafts), critiques))
    answers = asked_for(made.answers())
    assert longest == [{7}, {9}, {7}, {7}]
    for key, prompt in read_prompts(made._recipe.data).by_key.items():
        assert drafts[key]["prompt"] == as_json(prompt)
        assert critiques[key]["principle"] == revisions[key]["principle"]
        assert all(items[key]["finish"] == "stop" for items in (drafts, critiques, revisions))
        assert answers[key]["finishes"] == ["stop"] * len(answers[key]["texts"]) == ["stop"] * 2


def test_each_answer_is_drawn_by_a_seed_of_its_own(recipe: Make) -> None:
    models = Writers()
    made = stages(recipe("seeds"), models)
    answers = texts_of(made.drafts())
    for turn in (1, 2):
        made.revisions(turn, answers, made.critiques(turn, answers))
    made.answers()
    named = ("drafts", "critiques-1", "revisions-1", "critiques-2", "revisions-2", "answers")
    assert {request.sampling.seed for request in models.asked} == {
        seed_of(0, stage, key) for stage in named for key in answers
    }
    assert len(models.asked) == 6 * PROMPTS


@pytest.mark.parametrize("stage", ["drafts", "critiques", "revisions", "answers"])
def test_a_stage_is_not_taken_for_one_of_other_lengths(recipe: Make, stage: str) -> None:
    def items(settings: ConstitutionalRecipe) -> Any:
        made = stages(settings, Writers())
        answers = dict.fromkeys(read_prompts(settings.data).by_key, "one")
        critiques = {key: {"text": "two"} for key in answers}
        rounds: dict[str, tuple[Any, ...]] = {"critiques": (1, answers)}
        rounds["revisions"] = (1, answers, critiques)
        return getattr(made, stage)(*rounds.get(stage, ()))

    first = recipe(f"other-{stage}", answer_tokens=7, critique_tokens=9)
    items(first)
    with pytest.raises(InputError, match=f"{stage}.*: max_tokens", check=about("settings")):
        items(first.replace(answer_tokens=8, critique_tokens=10))


def test_a_stage_is_not_taken_for_one_of_other_answers(recipe: Make) -> None:
    made = stages(recipe("inputs"), Writers())
    keys = read_prompts(recipe("inputs").data).by_key

    def items(one: str, other: str) -> list[Callable[[], Any]]:
        texts, said = dict.fromkeys(keys, one), {key: {"text": other} for key in keys}
        pairs = {key: {"texts": [one, other], "finishes": ["stop"] * 2} for key in keys}
        return [
            lambda: made.critiques(1, texts),
            lambda: made.revisions(1, texts, said),
            lambda: made.verdicts(pairs),
        ]

    for first, other in zip(items("one", "two"), items("one more", "two"), strict=True):
        assert first() == first()
        with pytest.raises(InputError, match="other settings: inputs", check=about("settings")):
            other()


def test_the_principles_of_an_item_follow_from_the_seed_and_its_prompt(recipe: Make) -> None:
    settings = recipe("drawn", seed=5, labels=2)
    made, constitution = stages(settings, Writers()), read_constitution()
    answers = dict.fromkeys(read_prompts(settings.data).by_key, "one")
    critiques = made.critiques(1, answers)
    pair = {"texts": ["one", "two"], "finishes": ["stop"] * 2}
    verdicts = made.verdicts(dict.fromkeys(answers, pair))
    many = len(constitution.principles)
    for key in answers:
        (first, *_) = constitution.drawn(many, 5, "critique", key)
        assert critiques[key]["principle"] == first.name
        names = [each.name for each in constitution.drawn(2, 5, "label", key)]
        assert [each["principle"] for each in verdicts[key]["verdicts"]] == names


def test_a_pair_that_the_judge_cannot_read_keeps_its_reason(recipe: Make) -> None:
    class Short(Judge):
        async def compare(self, prompt: Any, *rest: Any) -> Any:
            if prompt == long:
                raise ContextLengthError("the prompt has 9 tokens")
            return await super().compare(prompt, *rest)

    class Judged(Writers):
        def judge(self, model: Any) -> Judge:
            return Short(self.asked)

    made = recipe("unread", labels=1)
    prompts = read_prompts(made.data).by_key
    key, long = next(iter(prompts.items()))
    answers = {each: {"texts": ["one", "two"], "finishes": ["stop"] * 2} for each in prompts}
    verdicts = stages(made, Judged()).verdicts(answers)
    assert verdicts[key] == {"problem": "the prompt has 9 tokens"}
    assert all(len(verdicts[each]["verdicts"]) == 1 for each in prompts if each != key)


def test_any_other_error_ends_the_stage_and_keeps_what_is_done(recipe: Make) -> None:
    made = recipe("failed", at_once=1)
    with pytest.raises(InputError, match="no such model"):
        stages(made, Remote(InputError("no such model"))).drafts()
    assert (made.folder / "drafts.jsonl.unfinished").read_bytes().count(b"\n") >= 3


def test_rounds_go_on_from_the_last_revision_by_another_principle(recipe: Make) -> None:
    models = Writers()
    made = stages(recipe("rounds"), models)
    answers = texts_of(made.drafts())
    first = made.critiques(1, answers)
    revised = texts_of(made.revisions(1, answers, first))
    second = made.critiques(2, revised)
    for key, item in second.items():
        assert item["principle"] != first[key]["principle"]
    shown = {request.messages[1].content for request in models.asked[-PROMPTS:]}
    assert shown == set(revised.values())


def test_the_judge_is_asked_by_the_principles_own_question(recipe: Make) -> None:
    models = Writers()
    made = stages(recipe("judged", labels=3), models)
    answers = {
        key: {"texts": ["one", "other"], "finishes": ["stop", "stop"]}
        for key in read_prompts(recipe("judged").data).by_key
    }
    cut, same, whole = list(answers)[:3]
    answers[cut]["finishes"] = ["stop", "length"]
    answers[same]["texts"] = ["one", "one"]
    verdicts = made.verdicts(answers)
    assert verdicts.keys() == answers.keys() - {cut, same}
    assert whole in verdicts
    questions = {principle.preference for principle in read_constitution().principles}
    assert {criterion for _, _, criterion in models.asked} <= questions
    assert all(len(item["verdicts"]) == 3 for item in verdicts.values())
    for item in verdicts.values():
        for verdict in item["verdicts"]:
            assert 0 < verdict["shown_first"] < 1
            low, high = sorted((verdict["shown_first"], verdict["shown_second"]))
            assert low <= verdict["probability"] <= high


@pytest.mark.parametrize(
    ("forward", "backward", "shown", "known"),
    [
        (0.0, math.log(3), (0.5, 0.75), True),
        (-math.log(3), None, (0.25, None), True),
        (None, 800.0, (None, 1.0), True),
        (-800.0, None, (0.0, None), True),
        (None, None, (None, None), False),
    ],
)
def test_a_judge_that_named_no_answer_has_no_verdict(
    forward: float | None, backward: float | None, shown: tuple[Any, Any], known: bool
) -> None:
    principle = read_constitution().principles[0]
    found = _verdict(principle, Said(forward, backward, 0.625))
    assert found.principle == principle.name
    assert (found.shown_first, found.shown_second) == pytest.approx(shown)
    assert found.probability == (0.625 if known else None)


def test_pairs_are_two_answers_with_their_ends_that_differ() -> None:
    ends, cut = ["stop", "stop"], ["length", "stop"]
    answers = {
        "both": {"texts": ["a", "b"], "finishes": ends},
        "cut": {"texts": ["a", "b"], "finishes": cut},
        "same": {"texts": ["a", "a"], "finishes": ends},
        "empty": {"texts": ["", "b"], "finishes": ends},
        "other": {"texts": ["a", ""], "finishes": ends},
        "problem": {"problem": "too long"},
    }
    assert pair_texts(answers) == {"both": ("a", "b")}
    said = {"principle": "p", "shown_first": 1.0, "shown_second": None, "probability": 0.75}
    labels = labels_of({"a": {"verdicts": [said, said]}, "b": {"problem": "too long"}})
    assert labels == {"a": PairLabel((PrincipleVerdict(**said), PrincipleVerdict(**said)))}


def test_the_record_is_there_as_far_as_the_run_is(recipe: Make, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    sets: dict[str, int] = {}
    made = recipe("recorded")

    class Watch(PipelineWatch):
        def finished(self, name: str) -> None:
            record = read_record(made.folder)
            labelled = sum(entry.label is not None for entry in record.entries)
            seen.append((name, sum(len(e.rounds) for e in record.entries), labelled))

        def rows(self, name: str, rows: DatasetRows) -> None:
            sets[name] = len(rows.rows)

    outcome = run_constitution(made, Writers(), watch=Watch())
    assert sets == {"sft": outcome.conversations, "preferences": outcome.preferences}
    assert seen[:4] == [
        ("drafts", 0, 0),
        ("critiques-1", PROMPTS, 0),
        ("revisions-1", PROMPTS, 0),
        ("sft", PROMPTS, 0),
    ]
    assert [name for name, _, _ in seen[4:]] == ["sft", "answers", "labels", "preferences", "dpo"]
    assert [each[2] > 0 for each in seen[4:]] == [False, False, True, True, True]
    record = read_record(made.folder)
    uses = record.uses()
    assert sum(use.critiques for use in uses) == PROMPTS
    labelled = sum(entry.label is not None for entry in record.entries)
    assert sum(use.comparisons for use in uses) == 2 * labelled
    assert sum(entry.in_dpo for entry in record.entries) == outcome.preferences
    assert sum(both for _, both in record.disagreements().values()) <= labelled
    shutil.copytree(made.folder, tmp_path / "copy", ignore=lambda _, names: {"drafts.jsonl"})
    assert read_record(tmp_path / "copy").entries == ()
    with pytest.raises(NotFoundError, match="no constitutional run in"):
        read_record(tmp_path)


def test_a_stage_that_was_begun_with_other_settings_is_refused(tmp_path: Path) -> None:
    async def works() -> dict[str, Any]:
        raise KeyboardInterrupt

    async def written() -> dict[str, Any]:
        return {"text": "x"}

    path = tmp_path / "drafts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_stage(path, {"seed": 1}, {"a": works}, 1, lambda done, total: None)
    for _ in range(2):  # that it was begun, and that it is whole
        with pytest.raises(
            InputError, match="other settings: seed", check=about("settings")
        ) as error:
            write_stage(path, {"seed": 2}, {"a": works}, 1, lambda done, total: None)
        assert error.value.hint == "give those again, or run=FOLDER for another run beside it"
        write_stage(path, {"seed": 1}, {"a": written}, 1, lambda done, total: None)


def test_a_stage_says_how_many_items_are_done(tmp_path: Path) -> None:
    async def work() -> dict[str, Any]:
        return {"text": "x"}

    path, told = tmp_path / "drafts.jsonl", list[tuple[int, int]]()
    for _ in range(2):
        write_stage(path, {}, {"a": work, "b": work}, 1, lambda *each: told.append(each))
    assert told == [(0, 2), (1, 2), (2, 2), (2, 2), (2, 2)]


def test_the_first_error_ends_a_stage_whatever_else_is_written(tmp_path: Path) -> None:
    async def waits() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def fails() -> dict[str, Any]:
        raise InputError("no such model")

    with pytest.raises(InputError, match="no such model"):
        write_stage(tmp_path / "a.jsonl", {}, {"a": waits, "b": fails}, 2, lambda *_: None)


def test_seeds_have_63_bits_and_digests_no_order() -> None:
    seeds = [seed_of(0, "drafts", str(n)) for n in range(20)]
    assert 2**62 < max(seeds) < 2**63
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
