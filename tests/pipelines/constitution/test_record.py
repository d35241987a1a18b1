"""What became of each prompt of a run, and how each principle was used, by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lmstack.core import FormatError, NotFoundError, StoreError
from lmstack.pipelines.constitution.labels import PairLabel, PrincipleVerdict
from lmstack.pipelines.constitution.principles import Constitution, Principle
from lmstack.pipelines.constitution.record import (
    PromptRecord,
    Record,
    RevisionRound,
    WrittenText,
    read_record,
)
from lmstack.pipelines.constitution.stage import read_stage

NAMES = ("kind", "honest", "short", "unused")
CONSTITUTION = Constitution(tuple(Principle(name, "c", "r", "p") for name in NAMES), "T")


def entry(
    rounds: Sequence[RevisionRound], verdicts: Sequence[PrincipleVerdict] = (), draft: str = "d"
) -> PromptRecord:
    label = PairLabel(tuple(verdicts)) if verdicts else None
    return PromptRecord("k", (), WrittenText(draft), tuple(rounds), (), label, False, False)


def turn(principle: str, text: str | None, problem: str | None = None) -> RevisionRound:
    revision = None if text is None else WrittenText(text, problem=problem)
    return RevisionRound(principle, WrittenText("critique"), revision)


@pytest.mark.parametrize(
    ("rounds", "changed"),
    [
        ([], False),
        ([turn("kind", None)], False),
        ([turn("kind", "d")], False),
        ([turn("kind", "e")], True),
        ([turn("kind", "e"), turn("short", "d")], False),  # back to the draft
        ([turn("kind", "e"), turn("short", "d", "refused")], True),  # what is of no use is none
        ([turn("kind", "e", "refused")], False),
    ],
)
def test_an_entry_is_changed_by_its_last_usable_revision(
    rounds: Sequence[RevisionRound], changed: bool
) -> None:
    assert entry(rounds).changed == changed


def test_every_principle_with_a_part_in_an_entry_is_named_once() -> None:
    found = entry(
        [turn("short", "e"), turn("kind", "f")], [PrincipleVerdict("kind", 0.5, 0.5, 0.5)]
    )
    assert found.principles == ("short", "kind")
    assert entry([]).principles == ()


ENTRIES = (
    entry(
        [turn("kind", "e"), turn("short", "e"), turn("kind", "f")],
        [PrincipleVerdict("kind", 0.75, 0.25, 0.5), PrincipleVerdict("honest", 1.0, 0.5, 0.75)],
    ),
    entry(
        [turn("kind", "d"), turn("kind", "e", "refused")],
        [
            PrincipleVerdict("kind", 0.125, 0.375, 0.25),
            PrincipleVerdict("honest", None, 1.0, 1.0),
            PrincipleVerdict("short", None, None, None),
        ],
    ),
    entry(
        [],
        [PrincipleVerdict("kind", 0.25, 0.25, 0.25), PrincipleVerdict("honest", 0.25, 0.5, 0.375)],
    ),
    entry([]),
)
RECORD = Record({}, CONSTITUTION, ENTRIES, {}, {})


def test_uses_count_what_a_principle_changed_decided_and_flipped() -> None:
    """Labels of the three pairs: .625, so the first; .625, so the first; .3125, so the second."""
    kind, honest, short, unused = RECORD.uses()
    assert (kind.name, kind.critiques, kind.changed) == ("kind", 4, 2)
    assert (kind.comparisons, kind.decided, kind.agreed, kind.flipped) == (3, 3, 1, 1)
    assert kind.position_bias == pytest.approx((0.25 - 0.125 + 0) / 3)
    assert kind.certainty == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert (honest.critiques, honest.changed) == (0, 0)
    assert (honest.comparisons, honest.decided, honest.agreed, honest.flipped) == (3, 3, 3, 0)
    assert honest.position_bias == pytest.approx((0.25 - 0.125) / 2)  # one has no such thing
    assert honest.certainty == pytest.approx((0.5 + 1 + 0.25) / 3)
    assert (short.critiques, short.changed, short.comparisons, short.decided) == (1, 0, 1, 0)
    assert (short.agreed, short.flipped) == (0, 0)
    assert (short.position_bias, short.certainty) == (None, None)
    assert (unused.name, unused.critiques, unused.comparisons) == ("unused", 0, 0)


def test_disagreements_count_pairs_of_principles_that_decided() -> None:
    """An even verdict decides nothing."""
    assert RECORD.disagreements() == {("honest", "kind"): (1, 2)}
    more = entry(
        [],
        [PrincipleVerdict(name, None, None, p) for name, p in zip("cab", (1, 0, 1), strict=True)],
    )
    found = Record({}, CONSTITUTION, (more, more, *ENTRIES), {}, {}).disagreements()
    assert list(found.items()) == [
        *((("a", "b"), (2, 2)), (("a", "c"), (2, 2))),
        *((("honest", "kind"), (1, 2)), (("b", "c"), (0, 2))),
    ]


def write(folder: Path, name: str, header: Any, *rows: Any) -> None:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in (header, *rows)))


def test_a_record_is_read_as_far_as_the_run_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no constitutional run in"):
        read_record(tmp_path)
    texts = {"critique": "c", "revision": "r", "preference": "p"}
    constitution = {"title": "T", "principles": [{"name": name, **texts} for name in NAMES]}
    recipe = {"recipe": {"labels": 2}, "constitution": constitution}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert read_record(tmp_path) == Record({"labels": 2}, CONSTITUTION, (), {}, {})
    asked = [{"role": "user", "content": "?"}]
    drafts = [{"key": key, "prompt": asked, "text": key.upper(), "finish": "stop"} for key in "ab"]
    drafts[1]["finish"] = "length"
    write(tmp_path, "drafts.jsonl", {"stage": "drafts"}, *drafts)
    written = {"principle": "kind", "text": "bad", "finish": "stop"}
    write(tmp_path, "critiques-1.jsonl", {"n": 1}, {"key": "a", **written})
    write(tmp_path, "critiques-3.jsonl", {"n": 3})  # of no round: the second is missing
    early = read_record(tmp_path)
    assert early.made_by == {"drafts": {"stage": "drafts"}, "critiques-1": {"n": 1}}
    assert early.entries[0].rounds == (RevisionRound("kind", WrittenText("bad"), None),)
    write(tmp_path, "revisions-1.jsonl", {}, {"key": "a", "problem": "empty"})
    answers = [{"key": "a", "texts": ["x", "y"], "finishes": ["stop", "length"]}]
    write(tmp_path, "answers.jsonl", {}, *answers, {"key": "b", "problem": "refused"})
    write(tmp_path, "sft.jsonl", {"key": "b"})
    write(tmp_path, "preferences.jsonl", {"key": "a"})
    (tmp_path / "sft.json").write_text('{"digest": "1"}')
    (tmp_path / "dpo.json").write_text("[3]")
    assert read_record(tmp_path).results == {"sft": {"digest": "1"}}
    (tmp_path / "dpo.json").write_text('{"digest": "2"}')
    verdict = PrincipleVerdict("kind", 0.5, 0.75, 0.625)
    write(tmp_path, "labels.jsonl", {"n": 2}, {"key": "a", "verdicts": [asdict(verdict)]})
    one, two = (record := read_record(tmp_path)).entries
    assert record.results == {"sft": {"digest": "1"}, "dpo": {"digest": "2"}}
    assert record.made_by["labels"] == {"n": 2}
    assert (one.key, one.draft, one.label) == ("a", WrittenText("A"), PairLabel((verdict,)))
    assert two.label is None
    assert (two.key, two.draft, two.rounds) == ("b", WrittenText("B", cut=True), ())
    assert [message.content for message in one.prompt] == ["?"]
    assert one.rounds == (RevisionRound("kind", WrittenText("bad"), WrittenText(problem="empty")),)
    assert one.answers == (WrittenText("x"), WrittenText("y", cut=True))
    assert two.answers == (WrittenText(problem="refused"),)
    assert [(each.in_sft, each.in_dpo) for each in (one, two)] == [(False, True), (True, False)]
    (tmp_path / "sft.json").write_text("{")
    with pytest.raises(FormatError, match=r"sft\.json is damaged"):
        read_record(tmp_path)


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").mkdir()
    with pytest.raises(StoreError, match=r"reading .*recipe\.json failed"):
        read_record(tmp_path)
    with pytest.raises(StoreError, match=rf"^reading {tmp_path} failed"):
        read_stage(tmp_path)
    (tmp_path / "drafts.jsonl").write_text('{"n": 1}\n{"text": "without a key"}\n')
    with pytest.raises(FormatError, match=r"drafts\.jsonl is damaged: 'key'") as error:
        read_stage(tmp_path / "drafts.jsonl")
    assert error.value.hint == "delete it, and its stage is written again"
