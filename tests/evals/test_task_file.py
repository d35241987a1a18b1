"""A task of one's own: what its file can say, and what it says when it is wrong."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.errors import about
from tests.evals.tasks import Exact, ScriptedLikelihoods, scripted

from lmstack.core import FormatError, InputError, Message, NotFoundError
from lmstack.evals import task_file
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.run import run
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.task import Subject, Task
from lmstack.evals.task_file import load_dataset, load_task

ROWS = [
    {"country": "France", "capital": "Paris", "continent": "Europe"},
    {"country": "Japan", "capital": "Tokyo", "continent": "Asia"},
    {"country": "Spain", "capital": ["Madrid", "Madrid city"], "continent": "Europe"},
]
CAPITALS = {
    "name": "capitals",
    "data": "capitals.jsonl",
    "input": "Q: What is the capital of {{country}}?\nA:",
    "targets": "capital",
    "cluster": "continent",
    "sampling": {"max_tokens": 16},
    "scorer": "exact",
}


def make_scorer(wanted: Any, **_: Any) -> Exact:
    values = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    if values.pop("name", None) != "exact" or set(values) - {"strict"}:
        raise InputError(f"there is no scorer {wanted}", param="scorer")
    return Exact(**values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "capitals.jsonl", ROWS)
    return tmp_path


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def loaded(folder: Path, settings: Mapping[str, Any]) -> Task:
    file = folder / "task.yaml"
    file.write_text(yaml.safe_dump(dict(settings)))
    return load_task(file, make_scorer)


def without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in CAPITALS.items() if key not in names}


async def test_ten_lines_and_a_file_make_a_task_that_runs(folder: Path) -> None:
    task = loaded(folder, CAPITALS)
    subject, model = scripted(lambda _r: "Paris")
    result = await run(task, subject)
    assert model.requests[0].messages == (Message("user", "Q: What is the capital of France?\nA:"),)
    assert [row.scores["correct"] for row in result.samples] == [1.0, 0.0, 0.0]
    assert [row.cluster for row in result.samples] == ["Europe", "Asia", "Europe"]
    assert (task.name, task.metrics[0].name) == ("capitals", "accuracy")
    assert task.dataset.samples[2].targets == ("Madrid", "Madrid city")


def test_the_example_of_the_docstring_is_a_task(folder: Path) -> None:
    text = task_file.__doc__ or ""
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    (folder / "task.yaml").write_text("\n".join(lines).replace("share: 0.5", "share: 1"))
    task = load_task(folder / "task.yaml")
    assert len(task.dataset.samples) == 3
    assert task.scorer.protocol["ignore_case"] is True
    assert task.metrics[0].name == "exact_match"


TEXT = {"name": "emma", "data": "emma.txt", "solver": "likelihood", "scorer": "perplexity"}


def test_a_text_file_is_one_text_or_parted_by_a_separator(folder: Path) -> None:
    (folder / "emma.txt").write_text("One {{x}}.\n\nTwo.\n\n \n\nThree.")
    (folder / "task.yaml").write_text(yaml.safe_dump(TEXT))
    [whole] = load_task(folder / "task.yaml").dataset.samples
    assert (whole.text, whole.targets) == ("One {{x}}.\n\nTwo.\n\n \n\nThree.", ())
    (folder / "task.yaml").write_text(yaml.safe_dump({**TEXT, "separator": "\n\n"}))
    parts = load_task(folder / "task.yaml").dataset.samples
    assert [(each.id, each.text) for each in parts] == [
        ("1", "One {{x}}."),
        ("2", "Two."),
        ("4", "Three."),
    ]


def test_windows_of_a_text_are_in_the_protocol(folder: Path) -> None:
    (folder / "emma.txt").write_text("One.")
    windows = {"kind": "strided", "max_length": 8, "stride": 4}
    (folder / "task.yaml").write_text(yaml.safe_dump({**TEXT, "windows": windows}))
    assert load_task(folder / "task.yaml").protocol["solver"]["windows"] == windows


def test_turns_may_be_written(folder: Path) -> None:
    turns = [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "{{country}}?"}]
    sample = loaded(folder, CAPITALS | {"input": turns}).dataset.samples[1]
    assert sample.input == (Message("system", "Be brief."), Message("user", "Japan?"))


def test_every_solver_can_be_named(folder: Path) -> None:
    plain = without("sampling")
    rows = [row | {"options": ["Paris", "Tokyo"], "right": n % 2} for n, row in enumerate(ROWS)]
    write(folder / "capitals.jsonl", rows)
    choice = plain | {"solver": "multiple_choice", "choices": "options", "gold": "right"}
    warm = CAPITALS | {"sampling": {"temperature": 0.7}, "vote": {"samples": 3}}
    found = [
        loaded(folder, each).solver
        for each in (CAPITALS, warm, choice, plain | {"solver": "likelihood", "before": " "})
    ]
    kinds = [Generate, SelfConsistency, MultipleChoice, TargetLikelihood]
    assert [type(each) for each in found] == kinds


async def test_gold_is_a_place_or_the_text_of_a_choice(folder: Path) -> None:
    rows = [
        {"q": "1?", "options": ["a", "b"], "right": 1},
        {"q": "2?", "options": ["a", "b"], "right": "b"},
        {"q": "3?", "options": ["a", "b"], "right": [0, "b"]},
    ]
    write(folder / "data.jsonl", rows)
    task = loaded(
        folder,
        {
            "name": "t",
            "data": "data.jsonl",
            "input": "{{q}}",
            "solver": "multiple_choice",
            "choices": "options",
            "gold": "right",
            "scorer": "exact",
        },
    )
    assert [sample.gold for sample in task.dataset.samples] == [(1,), (1,), (0, 1)]
    model = ScriptedLikelihoods(lambda _c, text: -float(text == " a"))
    result = await run(task, Subject("m", "sha256:0", likelihood=model))
    assert [row.answer for row in result.samples] == ["b", "b", "b"]


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("c", "the field right is 'c', which is no choice"),
        ("twice", "the field right is 'twice', which is no choice"),
        (True, "the field right is True, which is no choice"),
        (1.0, "the field right is 1.0, which is no choice"),
        (None, "the field right is None, which is no choice"),
        (["a", "c"], "the field right is 'c', which is no choice"),
        (4, "has 4 choices, and gold [4]"),
        (-1, "has 4 choices, and gold [-1]"),
    ],
)
def test_gold_that_names_no_choice_or_several_is_refused(
    folder: Path, right: Any, said: str
) -> None:
    write(folder / "capitals.jsonl", [{"options": ["a", "b", "twice", "twice"], "right": right}])
    choice = {"solver": "multiple_choice", "choices": "options", "gold": "right", "input": "?"}
    with pytest.raises(InputError, check=about("data")) as raised:
        loaded(folder, {"name": "t", "data": "capitals.jsonl", "scorer": "exact", **choice})
    assert "capitals.jsonl:1: " in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize("field", ["choices", "gold"])
def test_a_row_without_its_choices_or_gold_names_the_field(folder: Path, field: str) -> None:
    write(folder / "capitals.jsonl", [{"options": ["a", "b"], "right": 0}])
    choice = {"solver": "multiple_choice", "choices": "options", "gold": "right", "input": "?"}
    with pytest.raises(InputError, match="nowhere", check=about("data")):
        loaded(
            folder,
            {"name": "t", "data": "capitals.jsonl", "scorer": "exact", **choice, field: "nowhere"},
        )


def test_a_split_has_each_row_on_one_side_whatever_else_is_there(folder: Path) -> None:
    rows = [{"country": f"c{n}", "capital": "x", "continent": f"k{n % 40}"} for n in range(200)]
    write(folder / "capitals.jsonl", rows)

    def part(name: str, **more: Any) -> set[str]:
        task = loaded(folder, CAPITALS | {"split": {"part": name, "share": 0.3, **more}})
        return {str(sample.input) for sample in task.dataset.samples}

    test, tune = part("test"), part("tune")
    assert test | tune == {f"Q: What is the capital of c{n}?\nA:" for n in range(200)}
    assert not test & tune
    assert 20 <= len(test) <= 100
    assert part("test", seed=1) != test
    write(folder / "capitals.jsonl", [{"country": "new", **rows[0], "capital": "y"}, *rows[1:50]])
    assert part("test") <= test


def test_a_cluster_is_on_one_side(folder: Path) -> None:
    rows = [{"country": f"c{n}", "capital": "x", "continent": f"k{n % 20}"} for n in range(100)]
    write(folder / "capitals.jsonl", rows)
    sides = [
        {s.cluster for s in loaded(folder, CAPITALS | {"split": {"part": p}}).dataset.samples}
        for p in ("test", "tune")
    ]
    assert not sides[0] & sides[1]


def test_shots_come_from_a_file_of_their_own(folder: Path) -> None:
    shots = [{"country": c, "capital": c, "continent": "x"} for c in "ABC"]
    write(folder / "shots.jsonl", shots)
    task = loaded(folder, CAPITALS | {"raw": True, "shots": {"data": "shots.jsonl", "count": 1}})
    assert isinstance(task.solver, Generate)
    assert task.solver.request(task.dataset.samples[0]).prompt == (
        "Q: What is the capital of A?\nA: A\n\nQ: What is the capital of France?\nA:"
    )


def test_a_limit_takes_the_first_rows(folder: Path) -> None:
    assert len(loaded(folder, CAPITALS | {"limit": 2}).dataset.samples) == 2


def test_the_named_metric_is_the_first(folder: Path) -> None:
    task = loaded(folder, CAPITALS | {"metric": "length"})
    assert [metric.name for metric in task.metrics] == ["length", "accuracy"]
    with pytest.raises(InputError, match="did you mean 'accuracy'", check=about("metric")):
        loaded(folder, CAPITALS | {"metric": "acuracy"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tagrets": "capital"}, "did you mean 'targets'"),
        ({"solver": "generat"}, "generate, multiple_choice, likelihood"),
        ({"sampling": {"temprature": 0}}, "did you mean 'temperature'"),
        ({"sampling": 3}, "sampling is 3, not a mapping"),
        ({"sampling": {"seed": 1}}, "n or seed"),
        ({"split": {"part": "train"}}, "test, tune"),
        ({"split": {"part": "test", "share": 0}}, "no row of capitals.jsonl is in the split"),
        ({"scorer": "exakt"}, "no scorer exakt"),
        ({"scorer": {"name": "exact", "loose": True}}, "loose"),
        ({"letters": True}, "letters is of the solver multiple_choice"),
        ({"windows": {"kind": "rolling"}}, "windows is of the solver likelihood"),
        ({"separator": "; "}, "separator parts a text file, and capitals.jsonl is none"),
        ({"input": "{{country"}, "the template has"),
        ({"input": [{"role": "user"}]}, "a turn of input"),
        ({"input": [{"role": "robot", "text": "x"}]}, "robot"),
        ({"limit": 0}, "limit"),
        ({"name": 3}, "name is 3, not text"),
        ({"solver": "multiple_choice"}, "sampling is of the solver generate"),
        ({"before": " "}, "before is of the solver"),
        ({"vote": {"samples": 3}}, "temperature is 0"),
        ({"shots": {"data": "capitals.jsonl", "count": 9}}, "9 shots are wanted"),
    ],
)
def test_a_mistake_is_named_with_the_file(folder: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        loaded(folder, CAPITALS | change)
    assert said in str(caught.value)
    assert "task.yaml" in str(caught.value)


@pytest.mark.parametrize("missing", ["name", "data", "scorer"])
def test_a_missing_key_is_named(folder: Path, missing: str) -> None:
    with pytest.raises(
        InputError, match=f"lacks the setting '{missing}'", check=about("data", "name", "scorer")
    ):
        loaded(folder, without(missing))


def test_bad_rows_are_named_with_file_and_line_and_none_is_left_out(folder: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[1] = lines[1].replace("country", "contry")
    lines += ["{", "[1]", "", '{"country": NaN, "capital": "x", "continent": "y"}']
    (folder / "capitals.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, check=about("data")) as caught:
        loaded(folder, CAPITALS)
    said = str(caught.value)
    assert "4 of 6 rows cannot be used" in said
    for line, reason in (
        (2, "did you mean 'contry'"),
        (4, "not JSON"),
        (5, "not an object"),
        (7, "NaN"),
    ):
        assert f"capitals.jsonl:{line}: " in said
        assert reason in said


@pytest.mark.parametrize(("bad", "more"), [(5, "an object"), (6, "an object; and 1 more")])
def test_the_first_five_bad_rows_are_told_and_how_many_there_are(
    folder: Path, bad: int, more: str
) -> None:
    (folder / "capitals.jsonl").write_text("[]\n" * bad)
    with pytest.raises(InputError, match="rows cannot be used") as caught:
        loaded(folder, CAPITALS)
    assert caught.value.message.endswith(more)
    assert caught.value.message.count("capitals.jsonl:") == 5


def test_the_data_of_a_task_are_read_without_its_scorer(folder: Path) -> None:
    task = loaded(folder, CAPITALS)
    assert load_dataset(str(folder / "task.yaml")) == task.dataset
    (folder / "task.yaml").write_text(yaml.safe_dump(CAPITALS | {"scorer": "none"}))
    assert load_dataset(folder / "task.yaml") == task.dataset


def test_an_id_twice_names_both_lines(folder: Path) -> None:
    write(folder / "capitals.jsonl", [*ROWS, ROWS[0]])
    with pytest.raises(
        InputError,
        match=r"capitals.jsonl:4: its id 'France' is that of line 1",
        check=about("data"),
    ):
        loaded(folder, CAPITALS | {"id": "country"})


def test_a_line_separator_in_a_text_does_not_end_the_row(folder: Path) -> None:
    row = ROWS[0] | {"country": "a\u2028b"}
    (folder / "capitals.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    assert "a\u2028b" in str(loaded(folder, CAPITALS).dataset.samples[0].input)


def test_no_rows_and_no_file_are_named(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean"):
        loaded(folder, CAPITALS | {"data": "capital.jsonl"})
    (folder / "capitals.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no rows", check=about("data")):
        loaded(folder, CAPITALS)
    with pytest.raises(NotFoundError, match="should be a task"):
        load_task(folder / "nothing.yaml", make_scorer)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "name: *x\n"])
def test_a_file_that_is_no_task_is_refused(folder: Path, text: str) -> None:
    (folder / "task.yaml").write_text(text)
    with pytest.raises(FormatError, match=r"task\.yaml"):
        load_task(folder / "task.yaml", make_scorer)


def test_changed_data_have_another_digest(folder: Path) -> None:
    before = loaded(folder, CAPITALS).dataset.digest
    write(folder / "capitals.jsonl", [*ROWS[:2], ROWS[2] | {"note": "new"}])
    assert loaded(folder, CAPITALS).dataset.digest != before


def test_choices_can_be_the_same_for_each_row(folder: Path) -> None:
    write(folder / "mails.jsonl", [{"text": "Win!", "kind": "spam"}, {"text": "Hi", "kind": "ham"}])
    given = {
        "name": "mails",
        "data": "mails.jsonl",
        "input": "{{text}}",
        "choices": ["spam", "ham"],
        "gold": "kind",
        "solver": "multiple_choice",
        "scorer": "exact",
    }
    samples = loaded(folder, given).dataset.samples
    assert [(each.choices, each.gold) for each in samples] == [
        (("spam", "ham"), (0,)),
        (("spam", "ham"), (1,)),
    ]
    for wrong, said in (
        (["spam"], "choices is"),
        (["spam", "spam"], "choices is"),
        (["spam", ""], "choices is"),
        ([True, False], "choices has True, not text"),
    ):
        with pytest.raises(InputError, match=said, check=about("choices")):
            loaded(folder, {**given, "choices": wrong})


async def test_a_form_holds_what_is_generated_and_is_part_of_the_protocol(folder: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    plain = loaded(folder, CAPITALS).protocol
    seen = []
    for form, kind, source in (
        ({"schema": schema}, "json_schema", json.dumps(schema, sort_keys=True)),
        ({"choices": ["Paris", "Tokyo"]}, "regex", "Paris|Tokyo"),
        ({"pattern": "[A-Z][a-z]+"}, "regex", "[A-Z][a-z]+"),
    ):
        task = loaded(folder, {**CAPITALS, "form": form})
        subject, model = scripted(lambda _r: "Paris")
        await run(task, subject)
        assert model.requests[0].grammar is not None
        assert (model.requests[0].grammar.kind, model.requests[0].grammar.source) == (kind, source)
        seen.append(json.dumps(task.protocol))
    assert len({*seen, json.dumps(plain)}) == 4
    assert "grammar" not in json.dumps(plain)  # outputs of before are found again


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"shema": {}}, "form is"),
        ({"choices": ["a", "b"], "pattern": "a"}, "form is"),
        ({"choices": "a"}, "choices of form is 'a'"),
        ({"schema": {"type": "integer", "maximun": 3}}, "maximun"),
        ("json", "form is 'json', not a mapping"),
    ],
)
def test_a_form_that_is_none_is_refused(folder: Path, form: Any, said: str) -> None:
    with pytest.raises(InputError, match=said, check=about("form", "response_format")):
        loaded(folder, {**CAPITALS, "form": form})
    with pytest.raises(InputError, match="form is of the solver generate", check=about("form")):
        loaded(
            folder, {**CAPITALS, "form": {"pattern": "a"}, "solver": "likelihood", "sampling": None}
        )


def test_a_target_may_be_an_object_for_the_scorer_of_json(folder: Path) -> None:
    write(folder / "rows.jsonl", [{"q": "?", "a": {"n": 1}}, {"q": "!", "a": [{"n": 1}, {"n": 2}]}])
    given = {
        "name": "rows",
        "data": "rows.jsonl",
        "input": "{{q}}",
        "targets": "a",
        "scorer": "exact",
    }
    samples = loaded(folder, given).dataset.samples
    assert [each.targets for each in samples] == [('{"n": 1}',), ('{"n": 1}', '{"n": 2}')]


def test_shots_are_drawn_by_their_number_and_seed(folder: Path) -> None:
    pool = [{"country": c, "capital": c, "continent": "x"} for c in "ABCDEFGH"]
    write(folder / "shots.jsonl", pool)
    chosen = {"data": "shots.jsonl", "count": 2, "before_answer": "=", "after_answer": ";"}
    solvers = [
        loaded(folder, CAPITALS | {"raw": True, "shots": chosen | more}).solver
        for more in ({}, {"seed": 0}, {"seed": 5})
    ]
    shown = []
    for solver in solvers:
        assert isinstance(solver, Generate)
        assert solver.shots is not None
        shots = solver.shots
        assert (shots.count, shots.before_answer, shots.after_answer) == (2, "=", ";")
        shown.append([each.targets[0] for each in shots.samples])
    drawn = [random.Random(seed).sample([*"ABCDEFGH"], 3) for seed in (0, 5)]
    assert shown == [["A", "B", "C"], *drawn]


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"separator": "; "}, "separator", "separator parts a text file"),
        ({"input": 3}, "input", "input is 3"),
        ({"input": []}, "input", "input is"),
        ({"input": ["x"]}, "input", "a turn of input is 'x'"),
        ({"input": [{"role": "user", "text": "x", "more": 1}]}, "input", "a turn of input"),
        ({"sampling": 3}, "sampling", "sampling is 3"),
        ({"split": [1]}, "split", "split is"),
        ({"windows": 3}, "windows", "windows is 3"),
        ({"vote": 3}, "vote", "vote is 3"),
        ({"shots": "x"}, "shots", "shots is 'x'"),
        ({"before": 3}, "before", "before"),
        ({"instruction": 3}, "instruction", "instruction"),
        ({"cue": 3}, "cue", "cue"),
        ({"metric": 3}, "metric", "metric"),
        ({"about": 3}, "about", "about"),
        ({"choices": 3}, "choices", "choices"),
        ({"name": ""}, "name", "a task needs a name and data"),
        ({"data": ""}, "name", "a task needs a name and data"),
        ({"split": {"share": 0}}, "split", "no row of"),
        ({"before": "x"}, "before", "before is of the solver multiple_choice and likelihood"),
        ({"letters": True}, "letters", "letters is of the solver multiple_choice"),
        ({"windows": {}}, "windows", "windows is of the solver likelihood"),
        ({"faithfulness": False}, "faithfulness", "faithfulness is of the solver index"),
    ],
)
def test_which_setting_of_a_file_is_wrong(
    folder: Path, change: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(InputError, match=said, check=about(param)):
        loaded(folder, CAPITALS | change)


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        (
            {"solver": "multiple_choice"},
            "choices",
            "choices is needed by the solver multiple_choice",
        ),
        ({"sampling": {}}, "sampling", "sampling is of the solver generate"),
        ({"raw": True}, "raw", "raw is of the solver generate"),
        ({"cue": "x"}, "cue", "cue is of the solver generate"),
        ({"vote": {}}, "vote", "vote is of the solver generate"),
        ({"shots": {"data": "x"}}, "shots", "shots is of the solver the other solvers"),
    ],
)
def test_settings_are_of_the_solvers_that_know_them(
    folder: Path, change: dict[str, Any], param: str, said: str
) -> None:
    plain = without("sampling") | {"solver": "likelihood"}
    with pytest.raises(InputError, match=said, check=about(param)) as error:
        loaded(folder, plain | change)
    assert error.value.hint == f"set or leave out {param}"


def test_settings_reach_the_solver(folder: Path) -> None:
    rows = [row | {"options": ["Paris", "Tokyo"]} for row in ROWS]
    write(folder / "capitals.jsonl", rows)
    plain = without("sampling")
    choice = plain | {"solver": "multiple_choice", "choices": "options"}
    for before, expected in ((None, " "), ("", ""), ("=", "=")):
        more = {} if before is None else {"before": before}
        solver = loaded(folder, choice | more | {"instruction": "Do."}).solver
        assert solver == MultipleChoice("Do.", None, expected, False)
        scored = loaded(folder, plain | {"solver": "likelihood"} | more).solver
        assert isinstance(scored, TargetLikelihood)
        assert scored.before_target == (before or "")
    assert loaded(folder, choice | {"letters": True}).solver == MultipleChoice(letters=True)
    given = {"instruction": "Do.", "cue": "A:", "seed": 7, "raw": True, "sampling": {"top_k": 3}}
    solver = loaded(folder, CAPITALS | given).solver
    assert isinstance(solver, Generate)
    assert (solver.instruction, solver.cue, solver.seed, solver.raw) == ("Do.", "A:", 7, True)
    sampling = solver.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.top_k) == (0.0, 256, 3)
    vote = {"vote": {"samples": 3, "pattern": "x+"}, "sampling": {"temperature": 0.5}}
    voting = loaded(folder, CAPITALS | vote).solver
    assert isinstance(voting, SelfConsistency)
    assert (voting.samples, voting.pattern) == (3, "x+")
    usual = loaded(folder, CAPITALS | vote | {"vote": {}}).solver
    assert isinstance(usual, SelfConsistency)
    assert (usual.samples, usual.pattern) == (5, ".+")
    task = loaded(folder, CAPITALS | {"version": 3, "about": "Capitals."})
    assert (task.version, task.about, task.dataset.name) == (3, "Capitals.", "capitals")
    assert task.dataset.source == "capitals.jsonl"
    tuned = loaded(folder, CAPITALS | {"split": {"part": "tune", "share": 0.0}})
    assert tuned.dataset.source == "capitals.jsonl, part tune"
    assert len(tuned.dataset.samples) == 3


def test_a_split_goes_by_the_seed_and_what_is_asked(folder: Path) -> None:
    write(folder / "capitals.jsonl", [{"country": f"c{n}", "capital": "x"} for n in range(40)])
    plain = without("cluster") | {"input": "{{country}}"}
    for seed in (0, 3):
        split = {"part": "test", "share": 0.3, "seed": seed}
        found = [s.input for s in loaded(folder, plain | {"split": split}).dataset.samples]
        expected = []
        for n in range(40):
            digest = hashlib.sha256(f"{seed}\0c{n}".encode()).digest()
            if int.from_bytes(digest[:8], "big") < 0.3 * 2**64:
                expected.append(f"c{n}")
        assert found == expected
    turns = [{"role": "system", "text": "s"}, {"role": "user", "text": "{{country}}"}]
    talk = loaded(folder, plain | {"input": turns, "split": {"share": 0.3}}).dataset.samples
    hashes = [hashlib.sha256(f"0\0s\0c{n}".encode()).digest()[:8] for n in range(40)]
    asked = [f"c{n}" for n in range(40) if int.from_bytes(hashes[n], "big") < 0.3 * 2**64]
    assert [sample.text for sample in talk] == asked


def test_which_field_of_a_row_is_wrong_is_told(folder: Path) -> None:
    for row, said in (
        ({"country": "A", "capital": []}, "the field capital is an empty list"),
        ({"country": "A", "capital": [None]}, "the field capital is None"),
        ({"country": "A"}, "no field 'capital'"),
    ):
        write(folder / "capitals.jsonl", [row | {"continent": "x"}])
        with pytest.raises(InputError, match=said, check=about("data")):
            loaded(folder, CAPITALS)
