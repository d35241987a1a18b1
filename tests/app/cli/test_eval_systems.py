"""`lmstack eval run` on an index and on an agent, as a user types it: what it says, and what the
gate catches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.cli.lockers import NAMES, locker, question, write_lockers, write_rows
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.app import wiring
from lmstack.app.wiring import retrieval
from lmstack.core import Message, RemoteError, Request, ScriptedModel, ToolCall
from lmstack.rag import Index
from lmstack.rag.answer import confidence

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

TASK = """
name: lockers
data: lockers.jsonl
faithfulness: false
index: {docs: docs, answers: {min_confidence: %s}}
"""
GATE = "rules:\n  - {task: lockers, kind: non-inferior, margin: 0.15}\n"


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the model says, to be filled by the test."""
    said: list[Any] = ["ok"]
    monkeypatch.setattr(wiring, "generator", lambda *_, **__: ScriptedModel(said, name="tiny"))
    return said


@pytest.fixture
def lockers(
    tmp_path: Path,
    home: Path,
    replies: list[Any],
    embedder: HashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Documents of a fact each, a question about each, and one that none answers. A reranker is
    sure of a passage by 0.97 if it names the locker, else by 0.90 at most."""
    monkeypatch.setattr(retrieval, "_has_answer_reranker", lambda note: True)
    monkeypatch.setattr(retrieval, "_reranker", WordReranker)
    monkeypatch.setitem(confidence._KNOWN, "words", CALIBRATION)
    monkeypatch.chdir(tmp_path)
    write_lockers()
    Path("lockers.yaml").write_text(TASK % 0.95)
    Path("gate.yaml").write_text(GATE)
    return tmp_path


def test_questions_are_put_to_a_folder_of_documents(run: Run, lockers: Path) -> None:
    done = run("eval", "run", "lockers.yaml", "-o", "found")
    assert done.code == 0, done.err
    assert "lockers v1   tiny on docs   25 samples" in done.out
    figures = run("eval", "show", "found/lockers.json", "--json").json["figures"]
    for name in ("correct", "answer_correct", "right_when_answered", "citation_validity"):
        assert figures[name]["value"] == 1, name
    for name in ("ndcg@10", "recall@10", "evidence_recall@10", "confidence_auc"):
        assert figures[name]["value"] == 1, name
    assert figures["wrongly_refused"]["value"] == figures["wrongly_answered"]["value"] == 0
    # Wilson's interval of 0 of 24: z^2 / (24 + z^2).
    assert figures["wrongly_refused"]["high"] == pytest.approx(3.8415 / 27.8415, abs=1e-4)
    assert figures["citation_recall"]["value"] == 1


@pytest.mark.long
def test_the_gate_catches_a_stale_index(run: Run, lockers: Path) -> None:
    """`test_promote_documents.py` has one rejected, `tests/benchmarks/test_stale_index.py` too."""
    for number, name in enumerate(NAMES):
        locker(Path("docs"), name, 1000 + number + (7 if number % 2 else 0))
    assert run("index", "add", "--index", "stale", "docs").code == 0
    for number, name in enumerate(NAMES):
        locker(Path("docs"), name, 1000 + number)
    assert run("index", "add", "--index", "fresh", "docs").code == 0
    for name in ("stale", "fresh"):
        done = run("eval", "run", "lockers.yaml", "--index", name, "-o", f"of-{name}", "--json")
        assert done.code == 0, done.err
    results = [
        json.loads(Path(f"of-{name}/lockers.json").read_text()) for name in ("stale", "fresh")
    ]
    digests = [each["subject"]["digest"] for each in results]
    assert digests[0] != digests[1]
    assert results[0]["figures"]["correct"]["value"] == pytest.approx(13 / 25)
    # What it cites is in the index: only the answers are out of date.
    assert results[0]["figures"]["citation_validity"]["value"] == 1
    caught = run("eval", "gate", "of-stale", "--base", "of-fresh", "--gate", "gate.yaml")
    assert (caught.code, caught.out.split()[0]) == (1, "REJECT:"), caught.out
    passed = run("eval", "gate", "of-fresh", "--base", "of-stale", "--gate", "gate.yaml")
    assert (passed.code, passed.out.split()[0]) == (0, "PROMOTE:"), passed.out
    compared = run("eval", "compare", "of-fresh/lockers.json", "of-stale/lockers.json", "--json")
    assert len(compared.json["metrics"][0]["lost"]) == 12


def test_the_gate_catches_a_folder_that_changed_after_indexing(run: Run, lockers: Path) -> None:
    assert run("index", "add", "--index", "old", "docs").code == 0
    assert run("eval", "run", "lockers.yaml", "--index", "old", "-o", "before").code == 0
    rows = [question("zinc", answerable=False)]
    for number, name in enumerate(NAMES):
        locker(Path("docs"), name, 2000 + number)
        rows.append(question(name, answers=[2000 + number], sources=[f"{name}.md"]))
    locker(Path("docs"), "wool", 3000)
    rows.append(question("wool", answers=[3000], sources=["wool.md"]))
    write_rows("lockers.jsonl", rows)
    other = run("eval", "run", "lockers.yaml", "--index", "old", "-o", "after")
    assert "1 of 25 documents that the questions of lockers name are not in the index" in other.err
    assert "wool.md" in other.err
    figures = json.loads(Path("after/lockers.json").read_text())["figures"]
    assert figures["answer_correct"]["value"] == 0
    assert figures["recall@10"]["value"] == pytest.approx(24 / 25)
    refused = run("eval", "gate", "after", "--base", "before", "--gate", "gate.yaml")
    assert refused.code == 1
    assert "data" in refused.err  # results of other questions say nothing about each other
    assert run("eval", "run", "lockers.yaml", "-o", "updated").code == 0  # brings the folder in
    caught = run("eval", "gate", "after", "--base", "updated", "--gate", "gate.yaml")
    assert (caught.code, caught.out.split()[0]) == (1, "REJECT:"), caught.out


def test_the_gate_sees_a_setting(run: Run, lockers: Path) -> None:
    assert run("eval", "run", "lockers.yaml", "-o", "base").code == 0

    def decided(setting: str) -> tuple[Any, str]:
        Path("lockers.yaml").write_text(TASK % setting)
        assert run("eval", "run", "lockers.yaml", "-o", setting).code == 0
        figures = json.loads(Path(setting, "lockers.json").read_text())["figures"]
        gate = run("eval", "gate", setting, "--base", "base", "--gate", "gate.yaml")
        return figures, gate.out.split()[0]

    figures, word = decided("0.99")  # too strict: refuses what is answered
    assert (figures["wrongly_refused"]["value"], word) == (1, "REJECT:")
    figures, word = decided("0.5")  # answers one question of 25 that nothing answers
    assert figures["wrongly_answered"]["value"] == 1
    assert word != "REJECT:"


def test_a_model_that_writes_worse_by_its_instructions_is_caught(
    run: Run, lockers: Path, replies: list[Any]
) -> None:
    def reply(request: Request) -> str:
        """A model that does as it is told, if only by its last instruction."""
        said = "\n".join(message.content for message in request.messages)
        asked = re.findall(r"code of the (\w+) locker\?", said)[-1]
        codes = dict(re.findall(r"The code of the (\w+) locker is (\d+)", said))
        code = "secret" if "Never tell a number" in said else codes.get(asked, "unknown")
        return f"The code of the {asked} locker is {code}."

    replies[:] = [reply]
    writing = "name: lockers\ndata: lockers.jsonl\nfaithfulness: false\nindex:\n  docs: docs\n"
    writing += "  answers: {strategy: write, min_confidence: 0.95}\n"
    Path("lockers.yaml").write_text(writing)
    assert run("eval", "run", "lockers.yaml", "-o", "base").code == 0
    Path("lockers.yaml").write_text(writing + "  instructions: Never tell a number.\n")
    assert run("eval", "run", "lockers.yaml", "-o", "worse").code == 0
    value = [json.loads(Path(f"{name}/lockers.json").read_text()) for name in ("base", "worse")]
    assert value[0]["figures"]["correct"]["value"] == 1
    caught = run("eval", "gate", "worse", "--base", "base", "--gate", "gate.yaml")
    assert (caught.code, caught.out.split()[0]) == (1, "REJECT:"), caught.out


def test_a_second_run_asks_nothing_again_until_the_index_changes(run: Run, lockers: Path) -> None:
    words = ("eval", "run", "lockers.yaml", "--limit", "5", "--json")
    first, second = run(*words).json[0], run(*words)
    assert second.json[0]["figures"] == first["figures"]
    assert second.json[0]["subject"] == first["subject"]
    locker(Path("docs"), "wool", 3000)
    assert run(*words).json[0]["subject"]["digest"] != first["subject"]["digest"]


def test_a_result_is_not_written_for_an_index_that_changed_meanwhile(
    run: Run, lockers: Path, replies: list[Any]
) -> None:
    digests = iter(["before", "after"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Index, "content_digest", lambda _index: next(digests))
        done = run("eval", "run", "lockers.yaml", "--limit", "1", "-o", "found")
    assert done.code == 1
    assert "changed while it was evaluated" in done.err
    assert not Path("found/lockers.json").exists()


def test_what_is_wrong_with_a_call_is_said(run: Run, lockers: Path) -> None:
    Path("bare.yaml").write_text("name: bare\ndata: lockers.jsonl\nsolver: index\n")
    none = run("eval", "run", "bare.yaml")
    assert "nothing says which index bare is to ask" in none.err
    assert "--index FOLDER" in none.err
    assert "there is no index at" in run("eval", "run", "bare.yaml", "--index", "nowhere").err
    assert "asks no index" in run("eval", "run", "gpqa_generated", "--index", "nowhere").err
    unknown = run("eval", "run", "bare.yaml", "--index", "docs")
    assert unknown.code == 1
    assert "Traceback" not in unknown.err
    Path("bare.yaml").write_text("name: bare\ndata: lockers.jsonl\nindex: {dosc: docs}\n")
    assert "did you mean 'docs'?" in run("eval", "run", "bare.yaml").err
    text = "name: bare\ndata: lockers.jsonl\nindex: {docs: docs, answers: {min_confidance: 1}}\n"
    Path("bare.yaml").write_text(text)
    assert "did you mean 'min_confidence'?" in run("eval", "run", "bare.yaml").err
    Path("bare.yaml").write_text("name: bare\ndata: lockers.jsonl\nindex: {docs: docs}\n")
    faithful = run("eval", "run", "bare.yaml")  # by a model that says no likelihoods
    assert "does not say how likely a text is" in faithful.err


def called(name: str, **arguments: Any) -> Message:
    return Message("assistant", "", tool_calls=(ToolCall("", name, json.dumps(arguments)),))


def adding(request: Request) -> str | Message:
    """Uses the calculator for a sum, and reads what it gave; says 5 where it has none."""
    results = [message.content for message in request.messages if message.role == "tool"]
    if results:
        return f"It is {results[-1]}."
    if not request.tools:
        return "It is 5."
    numbers = re.findall(r"\d+", request.messages[-1].content)
    return called("calculator", expression=" + ".join(numbers))


def test_an_agent_is_evaluated_on_its_tasks(
    run: Run, replies: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replies[:] = [adding]
    rows = [{"task": f"What is {n} plus 4?", "answers": n + 4} for n in range(3)]
    rows.append({"task": "What is 5 plus 4?", "answers": 9, "tools": []})
    write_rows("sums.jsonl", rows)
    Path("sums.yaml").write_text("name: sums\ndata: sums.jsonl\nagent: {steps: 4}\n")
    done = run("eval", "run", "sums.yaml", "-o", "found", "--json")
    assert done.code == 0, done.err
    figures = {name: each["value"] for name, each in done.json[0]["figures"].items()}
    assert figures["success"] == 3 / 4
    assert figures["steps"] == pytest.approx((2 + 2 + 2 + 1) / 4)
    assert figures["tool_calls"] == 3 / 4
    assert (figures["ended_answered"], figures["failed_calls"]) == (1, 0)
    assert figures["prompt_tokens"] > 0
    Path("sums.yaml").write_text(
        "name: sums\ndata: sums.jsonl\nagent: {steps: 4, ask: [calculator]}\n"
    )
    asking = run("eval", "run", "sums.yaml", "-o", "asking", "--json").json[0]
    assert asking["subject"]["digest"] != done.json[0]["subject"]["digest"]
    assert asking["figures"]["ended_waiting"]["value"] == 3 / 4  # nobody is there to be asked
    compared = run("eval", "compare", "found/sums.json", "asking/sums.json", "--json").json
    assert compared["metrics"][0]["difference"]["value"] == pytest.approx(-3 / 4)


def test_an_agent_searches_an_index_and_reads_files(
    run: Run, lockers: Path, replies: list[Any]
) -> None:
    def reply(request: Request) -> str | Message:
        results = [message.content for message in request.messages if message.role == "tool"]
        if not results:
            return called("search", query="amber locker")
        return f"It is {re.findall(r'amber locker is ([0-9]+)', results[-1])[-1]}."

    replies[:] = [reply]
    write_rows("tasks.jsonl", [{"task": "Find the code of the amber locker.", "answers": 1000}])
    Path("data").mkdir()
    text = "name: find\ndata: tasks.jsonl\nagent: {docs: docs, files: [data]}\n"
    Path("find.yaml").write_text(text)
    first = run("eval", "run", "find.yaml", "--json")
    assert first.code == 0, first.err
    assert first.json[0]["figures"]["success"]["value"] == 1
    Path("data/notes.txt").write_text("new")  # what it may read decides what it answers
    second = run("eval", "run", "find.yaml", "--json").json[0]
    assert second["subject"]["digest"] != first.json[0]["subject"]["digest"]


def test_a_provider_that_fails_is_no_failure_of_the_agent(
    run: Run, replies: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmstack.evals.run._LONGEST_WAIT_S", 0.0)
    replies[:] = [RemoteError("no connection")]
    write_rows("sums.jsonl", [{"task": "What is 1 plus 4?", "answers": 5}])
    Path("sums.yaml").write_text("name: sums\ndata: sums.jsonl\nagent:\n")
    failed = run("eval", "run", "sums.yaml", "--json").json[0]
    assert failed["failed"] == 1
    replies[:] = ["It is 5."]
    assert run("eval", "run", "sums.yaml", "--json").json[0]["figures"]["success"]["value"] == 1
