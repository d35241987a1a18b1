"""`lmstack prompt`: what a file says, to the letter; how two differ; and which does better."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lmstack.app import wiring
from lmstack.core import ContextLengthError, Delta, Request, ScriptedModel

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

MOOD = """\
---
description: Says what a review thinks.
variables:
  review: {untrusted: true}
  place: {default: bar}
sampling: {temperature: 0, max_tokens: 8}
---
system:
You read reviews of a {{place}}.

user:
Good or bad?

{{review}}
"""
SHOTS = MOOD.replace(
    "sampling:",
    "examples: [{review: Cold., output: bad}, {review: Warm., output: good}]\nsampling:",
)
ROWS = [
    {"review": "Great.", "output": "good"},
    {"review": "Cold.", "output": "bad"},
    {"review": "Warm.", "output": "good"},
    {"review": "Awful.", "output": "bad"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prompts"
    path.mkdir()
    (path / "mood.md").write_text(MOOD)
    (path / "shots.md").write_text(SHOTS)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


class Reviewer(ScriptedModel):
    """Takes all for good, but for cold soup where it has seen some."""

    def __init__(self) -> None:
        super().__init__([self.judged], name="reviewer")

    @staticmethod
    def judged(request: Request) -> str:
        asked = request.messages[-1].content
        if "too long" in asked:
            raise ContextLengthError("too long")
        seen = any(message.role == "assistant" for message in request.messages)
        return "Bad!" if seen and ("Cold." in asked or "Awful." in asked) else "good"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Reviewer:
    found = Reviewer()
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: found)
    return found


def test_list_has_versions_and_says_what_is_left_out(folder: Path, run: Run) -> None:
    (folder / "broken.yaml").write_text("turns: {")
    (folder / "README.md").write_text("# About them")
    done = run("prompt", "list")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0][0] == "PROMPT"
    assert re.fullmatch(r"mood@\w{7}", rows[1][0])
    assert rows[1][1:5] == ["mood.md", "review,", "place", "Says"]
    assert "left out" in done.err
    assert "broken.yaml" in done.err
    assert "README" not in done.out + done.err
    found = run("prompt", "list", "--json").json
    assert [each["name"] for each in found["prompts"]] == ["mood", "shots"]
    assert found["prompts"][0]["variables"]["review"]["untrusted"] is True
    assert found["broken"][0]["file"].endswith("broken.yaml")


def test_list_of_no_folder_is_an_error_with_a_hint(tmp_path: Path, run: Run) -> None:
    done = run("prompt", "list", "--prompts", str(tmp_path / "none"))
    assert done.code == 1
    assert "there is no folder" in done.err


def test_show_prints_what_is_asked(folder: Path, run: Run) -> None:
    done = run("prompt", "show", "shots", "--var", "review=It was so so.")
    told = re.sub(r"data-\w{8}", "data", done.out)
    assert told == (
        "system:\nYou read reviews of a bar.\n\n"
        'user:\nGood or bad?\n\n<data from="review">\nCold.\n</data>\n\nassistant:\nbad\n\n'
        'user:\nGood or bad?\n\n<data from="review">\nWarm.\n</data>\n\nassistant:\ngood\n\n'
        'user:\nGood or bad?\n\n<data from="review">\nIt was so so.\n</data>\n'
    )
    assert "{{review}}" in run("prompt", "show", "mood").out


def test_show_takes_values_from_files(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "review.txt").write_text("a = b\nc")
    done = run("prompt", "show", "mood", "--var-file", "review=review.txt", "--json")
    assert "\na = b\nc\n</data" in done.json["messages"][1]["content"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nood",), 1, "did you mean 'mood'?"),
        (("mood", "--var", "review"), 2, "--var is 'review'"),
        (("mood", "--var", "review=a", "--var", "review=b"), 2, "given twice"),
        (("mood", "--var", "revew=a"), 1, "did you mean 'review'?"),
        (("mood", "--var", "place=a"), 1, "lacks a value for review"),
        (("mood", "--var-file", "review=none.txt"), 1, "none.txt"),
        (("none.md",), 1, "there is no prompt"),
    ],
)
def test_show_says_what_is_wrong(
    folder: Path, run: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run("prompt", "show", *words)
    assert done.code == code
    assert said in done.err


def test_text_from_a_file_cannot_repaint_the_terminal(folder: Path, run: Run) -> None:
    assert "\x1b" not in run("prompt", "show", "mood", "--var", "review=\x1b[2J").out


def test_explain_of_a_remote_model_counts_no_tokens(folder: Path, run: Run) -> None:
    words = ("prompt", "show", "mood", "--var", "review=x", "--explain", "--model", "openai:m")
    done = run(*words)
    assert "the tokens of a remote model are not known here" in done.out
    assert "{{review}} (untrusted)" in done.out
    found = run(*words, "--json").json["explanation"]
    assert (found["prompt_tokens"], found["budget"], found["max_tokens"]) == (None, None, 8)


def test_diff_shows_settings_and_text_and_leaves_out_the_keys_of_fences(
    folder: Path, run: Run
) -> None:
    done = run("prompt", "diff", "mood", "shots", "--json").json
    assert not done["same"]
    changed = [line for line in done["settings"][2:] if line[0] in "+-"]
    assert [line.partition(":")[0] for line in changed] == ["+example", "+example"]
    assert not [line for line in done["text"][2:] if line.startswith("-")]
    assert "+bad" in done["text"]
    said = run("prompt", "diff", "mood", "mood")
    assert re.fullmatch(r"the same version: mood@\w{7}\n", said.out)


def test_diff_fills_in_values(folder: Path, run: Run) -> None:
    (folder / "new.md").write_text(MOOD.replace("of a", "of the").replace("bar}", "inn}"))
    done = run("prompt", "diff", "mood", "new", "--var", "review=x", "--json").json
    assert "-You read reviews of a bar." in done["text"]
    assert "+You read reviews of the inn." in done["text"]


def test_one_prompt_is_right_so_often_with_an_interval(
    folder: Path, run: Run, model: Reviewer
) -> None:
    done = run("prompt", "test", "mood", "--examples", "rows.jsonl", "--json").json
    [found] = done["prompts"]
    assert (found["right"], done["examples"], found["share"]) == (2, 4, 0.5)
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.15, 0.85)
    assert done["rows"][0]["answers"][0]["answer"] == "good"
    assert {request.prompt_name for request in model.requests} == {"mood"}
    assert {request.prompt_digest for request in model.requests} == {found["digest"]}


def test_two_prompts_are_compared_by_what_only_one_gets_right(
    folder: Path, run: Run, model: Reviewer
) -> None:
    words = ("prompt", "test", "mood", "shots", "--examples", "rows.jsonl")
    done = run(*words, "--json").json
    assert [found["right"] for found in done["prompts"]] == [2, 4]
    paired = {"both": 2, "only_first": 0, "only_second": 2, "neither": 0, "p": 0.5}
    assert done["paired"] == paired
    # No example is shown for itself, though two of them are those of the prompt.
    shown = [
        [m.content for m in request.messages]
        for request in model.requests
        if request.prompt_name == "shots" and "Cold." in request.messages[-1].content
    ]
    assert len(shown[0]) == 4
    said = run(*words).out
    assert re.search(r"only mood@\w+ is right on 0, only shots@\w+ on 2; p = 0.500", said)
    assert re.search(r"mood@\w+ +2 of 4 +50.0% +15.0% to 85.0%", said)
    assert '"review": "Cold."' in said


def test_answers_that_are_cut_or_too_long_are_wrong_and_counted(
    folder: Path, run: Run, model: Reviewer, tmp_path: Path
) -> None:
    (folder / "form.md").write_text(
        MOOD.replace("sampling", "choices: [good, bad, fair]\nsampling")
    )
    rows = [*ROWS, {"review": "this is too long", "output": "good"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model._replies = [
        lambda request: (
            "so so" if "Great" in request.messages[1].content else Reviewer.judged(request)
        )
    ]
    done = run("prompt", "test", "form", "--examples", "rows.jsonl", "--json").json
    [found] = done["prompts"]
    assert (found["right"], done["examples"]) == (1, 5)
    assert found["problems"] == {"not of the form": 1, "too long": 1}
    said = run("prompt", "test", "form", "--examples", "rows.jsonl").out
    assert "1 answers did not fit: the prompt is too long" in said


@pytest.mark.parametrize("with_file", [False, True])
def test_what_was_answered_before_ctrl_c_is_not_asked_again(
    folder: Path,
    run: Run,
    model: Reviewer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    home: Path,
    with_file: bool,
) -> None:
    monkeypatch.setattr("lmstack.app.cli.commands.prompt_trial._BATCH", 1)
    words = ["prompt", "test", "mood", "shots", "--examples", "rows.jsonl"]
    words += ["--output", "done.jsonl"] if with_file else []
    whole = Reviewer.stream

    async def stops(self: Reviewer, request: Request) -> AsyncIterator[Delta]:
        if len(self.requests) == 5:
            raise KeyboardInterrupt
        async for delta in whole(self, request):
            yield delta

    monkeypatch.setattr(Reviewer, "stream", stops)
    stopped = run(*words)
    assert stopped.code == 130
    assert "what was answered so far is in" in stopped.err
    monkeypatch.setattr(Reviewer, "stream", whole)
    done = run(*words, "--json").json
    assert [found["right"] for found in done["prompts"]] == [2, 4]
    assert len(model.requests) == 8
    kept = tmp_path / "done.jsonl"
    assert kept.exists() == with_file
    if with_file:
        assert len(kept.read_text().splitlines()) == 4
        assert "is there already" in run(*words).err
    assert not list(home.rglob("*.unfinished"))
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"revew": "x", "output": "a"}, "did you mean 'review'?"),
        ({"review": "x"}, "has no output"),
        ({"review": "x", "output": "a", "scorer": "exct"}, "did you mean 'exact'?"),
        ({"review": "x", "output": "(", "scorer": "regex"}, "which is no pattern"),
        ({"review": "x", "output": "{", "scorer": "json"}, "which is not JSON"),
        ({"review": "x", "output": 3}, "is 3, not text"),
    ],
)
def test_examples_that_cannot_be_tried_are_said_before_the_model_is_asked(
    folder: Path, run: Run, model: Reviewer, tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    done = run("prompt", "test", "mood", "--examples", "rows.jsonl")
    assert done.code == 1
    assert said in done.err
    assert "rows.jsonl:1" in done.err
    assert not model.requests


def test_a_prompt_beside_itself_and_no_examples_are_errors(
    folder: Path, run: Run, model: Reviewer, tmp_path: Path
) -> None:
    done = run("prompt", "test", "mood", "prompts/mood.md", "--examples", "rows.jsonl")
    assert "both prompts are mood@" in done.err
    (tmp_path / "rows.jsonl").write_text("\n")
    assert "no example in" in run("prompt", "test", "mood", "--examples", "rows.jsonl").err
    assert run("prompt", "test", "mood").code == 2


def test_nearest_examples_take_an_embedder(
    folder: Path, run: Run, model: Reviewer, embedder: HashEmbedder
) -> None:
    near = SHOTS.replace("sampling:", "choose: nearest\nshots: 1\nsampling:")
    (folder / "near.md").write_text(near)
    said = run("prompt", "show", "near", "--var", "review=Warm. indeed").out
    assert "assistant:\ngood\n" in said
    assert "assistant:\nbad\n" not in said
    run("prompt", "test", "near", "--examples", "rows.jsonl")
    assert {len(request.messages) for request in model.requests} == {4}


Scorers = list[tuple[str, str, Any, bool]]


def test_each_scorer_says_what_is_right(
    folder: Path, run: Run, model: Reviewer, tmp_path: Path
) -> None:
    cases: Scorers = [
        ("exact", "**Good.**", "good", True),
        ("exact", "good food", "good", False),
        ("exact", "1,000", "1000.0", True),
        ("contains", "It is  GOOD food", "good food", True),
        ("contains", "bad", "good", False),
        ("regex", "the year 1999.", r"\b19\d\d\b", True),
        ("regex", "the year 99.", r"\b19\d\d\b", False),
        ("json", '```json\n{"a": 1.0}\n```', {"a": 1}, True),
        ("json", '{"a": true}', {"a": 1}, False),
        ("json", '{"a": 1, "b": 2}', {"a": 1}, False),
        ("json", '{"a": [1]}', None, True),
        ("json", "{a: 1}", None, False),
    ]
    rows = [
        {"review": f"number {n}.", "scorer": scorer, "output": output}
        for n, (scorer, _, output, _) in enumerate(cases)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    by_number = {f"number {n}.": said for n, (_, said, _, _) in enumerate(cases)}
    find: Callable[[str], str] = lambda text: next(  # noqa: E731
        said for key, said in by_number.items() if key in text
    )
    model._replies = [lambda request: find(request.messages[-1].content)]
    (folder / "mood.md").write_text(MOOD.replace("max_tokens: 8", "max_tokens: 80"))
    done = run("prompt", "test", "mood", "--examples", "rows.jsonl", "--json").json
    found = [row["answers"][0]["right"] for row in done["rows"]]
    assert found == [right for *_, right in cases]


def test_a_schema_is_tried_as_json(folder: Path, run: Run, model: Reviewer, tmp_path: Path) -> None:
    schema = "schema: {type: object, properties: {mood: {enum: [good, bad]}}, required: [mood]}\n"
    (folder / "mood.md").write_text(MOOD.replace("sampling:", schema + "sampling:"))
    rows = [{"review": "x", "output": {"mood": "good"}}, {"review": "y"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model._replies = ['{"mood": "good"}']
    done = run("prompt", "test", "mood", "--examples", "rows.jsonl", "--json").json
    assert done["prompts"][0]["right"] == 2
    assert model.requests[0].grammar is not None


def test_what_is_sent_to_a_provider_is_said(
    folder: Path, run: Run, model: Reviewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    words = ("prompt", "test", "mood", "--examples", "rows.jsonl", "--model", "openai:m")
    assert "prompts and examples are sent to http://elsewhere/v1" in run(*words).err
