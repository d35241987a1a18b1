"""`lmstack release promote --docs` as a user types it; what is served, refused, rolled back."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
from tests.app.cli.lockers import NAMES, locker, write_lockers
from tests.app.cli.made_once import made_once, new_home
from tests.app.cli.numbers_task import hardly_trained, write_numbers
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.app import wiring
from lmstack.app.server.serve import Service
from lmstack.app.wiring import retrieval
from lmstack.core import LmstackError
from lmstack.rag import Index
from lmstack.rag.answer import confidence
from lmstack.registry.aliases import Aliases
from lmstack.registry.releases import Release
from lmstack.release import released_documents

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Ran, Run

LOCKERS = "name: lockers\ndata: lockers.jsonl\nfaithfulness: false\nindex: {docs: docs}\n"
NUMBERS = "rules:\n  - {task: numbers, kind: at_least, threshold: 0.05}\n"
ASKED = "  - {task: lockers, kind: at_least, threshold: 0.5}\n"
COMPARED = "  - {task: lockers, kind: non-inferior, margin: 0.15}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardly_trained(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(place, monkeypatch)


@pytest.fixture
def folder(
    home: Path,
    made: Path,
    embedder: HashEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A model, documents and questions about them; a reranker that knows words."""
    torch.set_num_threads(1)
    # The same usual form on every machine.
    monkeypatch.setattr("lmstack.serve.forms.multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(retrieval, "_has_answer_reranker", lambda note: True)
    monkeypatch.setattr(retrieval, "_reranker", WordReranker)
    monkeypatch.setitem(confidence._KNOWN, "words", CALIBRATION)
    found = home.parent
    shutil.copytree(made, found / "one")
    write_numbers(found, 20)
    write_lockers()
    Path("lockers.yaml").write_text(LOCKERS)
    Path("gate.yaml").write_text(NUMBERS + ASKED + COMPARED)
    return found


@pytest.fixture
def promote(run: Run, folder: Path) -> Callable[..., Ran]:
    def call(*words: str, gate: str = "gate.yaml", docs: str | None = "docs") -> Ran:
        tasks = ["--task", "task.yaml", "--task", "lockers.yaml"]
        given = [] if docs is None else ["--docs", docs]
        return run(
            "release", "promote", "./one", *given, *words, "--to", "prod", "--gate", gate, *tasks
        )

    return call


Promote = Callable[..., "Ran"]


@pytest.fixture
def first_release(place: Path, folder: Path, promote: Promote) -> None:
    """`promote --first` was typed: once for all tests, each of which goes on from what it left."""

    def make() -> None:
        done = promote("--first")
        assert done.code == 0, done.err

    made_once(folder, place / "first", make)


def released() -> Release:
    found = Aliases().read("prod").release
    assert found is not None
    return found


def change_codes(by: int) -> None:
    for number, name in enumerate(NAMES):
        locker(Path("docs"), name, 1000 + number + by)


def served(**options: Any) -> Service:
    """What `lmstack up prod` serves."""
    given = {"embedder_name": None, "api_keys": (), "local": True} | options
    return wiring.service(Path(released().docs), model="prod", **given)


@pytest.fixture
def ask() -> Iterator[Callable[[str], Any]]:
    """The answer of `lmstack up prod` about a locker, as its API gives it."""
    services: list[Service] = []

    async def asked(name: str) -> Any:
        services.append(served())
        body = {
            "model": "docs",
            "messages": [{"role": "user", "content": f"What is the code of the {name} locker?"}],
        }
        transport = httpx.ASGITransport(services[-1].app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.post("/v1/chat/completions", json=body)
        return answer.json()

    yield lambda name: asyncio.run(asked(name))
    for each in services:
        each.close()


def said(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_documents_are_evaluated_and_part_of_the_release(
    run: Run, promote: Promote, folder: Path
) -> None:
    done = promote("--first", "--results", "results")
    assert done.code == 0, done.err
    assert done.out.startswith("PROMOTE: every rule is shown to hold (2 of them).")
    assert "lockers correct: above 0.500: shown" in done.out
    assert "Not tested, as there is nothing to compare with: lockers (non-inferior)." in done.out
    with Index.open(wiring.index_of(folder / "docs"), create=False) as index:
        content = index.content_digest()
    release = released()
    assert f"+docs.{content}+answers." in release.digest
    assert release.title.endswith("one, bfloat16, documents docs")
    figures = json.loads(Path("results/candidate/lockers.json").read_text())["figures"]
    for name in ("ndcg@10", "citation_validity", "answer_correct"):
        assert figures[name]["value"] == 1, name
    [state] = run("release", "list", "--json").json
    assert (state["release"]["docs"], state["problem"]) == (str(folder / "docs"), "")
    again = promote()
    assert (again.code, "already" in again.out) == (0, True)
    [asked] = run("eval", "run", "task.yaml", "--model", "prod", "--json").json
    assert asked["subject"]["digest"] == release.model_digest


@pytest.mark.usefixtures("first_release")
def test_what_passed_is_served_whatever_becomes_of_the_folder(
    run: Run, promote: Promote, ask: Callable[[str], Any]
) -> None:
    change_codes(by=7)
    assert run("index", "update", "--docs", "docs").code == 0
    locker(Path("docs"), "wool", 3000)
    answer = ask("amber")
    assert "1000" in said(answer)
    assert "1007" not in said(answer)
    assert answer["system_fingerprint"] == released().digest
    assert "3000" not in said(ask("wool"))
    records = [json.loads(line) for line in wiring.audit_path().read_text().splitlines()]
    named = {each["model"]["digest"] for each in records if each["event"] == "finished"}
    assert named == {released().digest}
    shutil.rmtree("docs")
    assert "1000" in said(ask("amber"))


@pytest.mark.usefixtures("first_release")
def test_a_server_says_what_of_the_folder_it_does_not_serve(promote: Promote) -> None:
    told: list[str] = []
    served(note=told.append).close()
    assert told == []
    change_codes(by=7)
    locker(Path("docs"), "wool", 3000)
    served(note=told.append).close()
    [note] = told
    assert f"(1 new, {len(NAMES)} changed)" in note
    assert "what was evaluated is served until it is promoted again" in note


@pytest.mark.usefixtures("first_release")
def test_a_stale_index_is_rejected_and_a_fresh_one_takes_its_place(
    run: Run, promote: Promote
) -> None:
    """Production and candidate are asked the same questions, which moved on."""
    before = released()
    rows = [json.loads(line) for line in Path("lockers.jsonl").read_text().splitlines()]
    for row in rows[1:]:
        row["answers"] = [row["answers"][0] + 7]
    Path("lockers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    locker(Path("docs"), "wool", 3000)  # and the rest of the folder is as stale as it was
    stale = promote()
    assert (stale.code, stale.out.split()[0]) == (1, "REJECT:"), stale.err
    assert released() == before
    change_codes(by=7)
    fresh = promote("--results", "results")
    assert (fresh.code, fresh.out.split()[0]) == (0, "PROMOTE:"), fresh.err
    results = [
        json.loads(Path(f"results/{side}/lockers.json").read_text())
        for side in ("candidate", "production")
    ]
    assert results[0]["dataset"] == results[1]["dataset"]
    assert results[0]["figures"]["answer_correct"]["value"] == 1
    assert results[1]["figures"]["answer_correct"]["value"] == 0
    kept = {path.name for path in (wiring.home() / "releases").iterdir()}
    assert kept == {before.index_content, released().index_content}  # none of what was rejected


@pytest.mark.usefixtures("first_release")
def test_a_rollback_goes_to_the_earlier_documents_if_they_are_there(
    run: Run, promote: Promote, ask: Callable[[str], Any]
) -> None:
    first = released()
    locker(Path("docs"), "wool", 3000)
    other = promote()
    assert other.code == 0, other.err
    assert "3000" in said(ask("wool"))
    second = released()
    back = run("release", "rollback", "prod")
    assert back.code == 0, back.err
    for done in (other, back):
        assert "its documents are others: start `lmstack up prod` again" in done.err
    assert released() == first
    assert "3000" not in said(ask("wool"))
    assert run("release", "rollback", "prod", "--to", second.digest).code == 0
    shutil.rmtree(released_documents.place_of(first))
    refused = run("release", "rollback", "prod", "--to", first.digest)
    assert refused.code == 1
    assert "the index of" in refused.err
    assert "that was evaluated" in refused.err
    assert "is not here" in refused.err
    assert "promote again: lmstack release promote" in refused.err
    assert released() != first


def _other_text(place: Path) -> None:
    change_codes(by=1)
    with Index.open(place, wiring.embedder(None), create=False) as index:
        index.update()


def _damaged(place: Path) -> None:
    path = place / "index.sqlite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_text, "is now docs."),
        (_damaged, "is now docs.unreadable"),
        (shutil.rmtree, "is not here"),
    ],
)
@pytest.mark.usefixtures("first_release")
def test_an_index_that_is_not_what_was_evaluated_is_not_served(
    run: Run, promote: Promote, change: Callable[[Path], None], reason: str
) -> None:
    change(released_documents.place_of(released()))
    done = run("up", "prod")
    assert done.code == 1
    assert reason in done.err
    assert released().index_part[:17] in done.err
    assert "promote again: lmstack release promote" in done.err
    with pytest.raises(LmstackError, match=reason):
        served()
    [state] = run("release", "list", "--json").json
    assert reason in state["problem"]


@pytest.mark.usefixtures("first_release")
def test_an_index_that_is_gone_is_brought_back_by_what_it_was_made_of(promote: Promote) -> None:
    shutil.rmtree(released_documents.place_of(released()))
    other = promote("--weights", "float32")
    assert "is not here" in other.err
    assert "leave rules that compare answers from documents out" in other.err
    again = promote()  # the same once more
    assert (again.code, "already" in again.out) == (0, True), again.err
    served().close()


@pytest.mark.usefixtures("first_release")
def test_answers_that_are_made_otherwise_are_not_served(
    run: Run, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the model that chooses passages, say."""
    monkeypatch.setattr(retrieval, "_has_answer_reranker", lambda note: False)
    with pytest.raises(LmstackError, match="are made otherwise here") as caught:
        served()
    assert released().answers_part[:20] in caught.value.message


@pytest.mark.usefixtures("first_release")
def test_what_would_answer_from_something_else_is_refused(run: Run, promote: Promote) -> None:
    for words, option in (
        (("prod", "--uploads"), "uploads"),
        (("prod", "--reader", "x"), "reader"),
        (("prod", "--embedder", "x"), "embedder"),
        (("docs", "--model", "prod"), "docs"),
    ):
        done = run("up", *words)
        assert done.code == 1
        assert "prod answers from its own documents, as they were evaluated" in done.err
        assert f"not with --{option}" in done.err


@pytest.mark.usefixtures("first_release")
def test_up_serves_the_documents_of_the_alias(
    run: Run, promote: Promote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(wiring, "service", lambda docs, **rest: loaded.append((docs, rest)))
    monkeypatch.setattr(
        "lmstack.app.server.serve.serve",
        lambda listener, load, ready, _: (listener.close(), load(), ready()),
    )
    for words in (("prod",), ("--model", "prod")):
        done = run("up", *words, "--port", "0")
        assert done.code == 0, done.err
        assert f"lmstack serves {folder / 'docs'} as it was evaluated at" in done.out
        docs, rest = loaded.pop()
        assert (docs, rest["model"]) == (folder / "docs", "prod")


def test_documents_that_no_rule_asks_are_not_promoted(run: Run, promote: Promote) -> None:
    Path("numbers.yaml").write_text(NUMBERS)
    words = ("release", "promote", "./one", "--docs", "docs", "--to", "prod", "--task", "task.yaml")
    none = run(*words, "--gate", "numbers.yaml", "--first")
    assert none.code == 1
    assert "numbers.yaml has no rule that is at_least for a task that asks documents" in none.err
    assert "{task: questions, metric: correct, kind: at_least, threshold: 0.2}" in none.err
    assert "samples" not in none.err  # nothing was measured
    assert run(*words[:3], *words[5:], "--gate", "numbers.yaml", "--first").code == 0
    later = run(*words, "--gate", "numbers.yaml")
    assert "no rule that is at_least" in later.err
    assert "--new-rules says that the gate is to be another" in later.err
    assert "samples" not in later.err


@pytest.mark.usefixtures("first_release")
def test_only_the_index_changes_and_no_rule_would_see_it(run: Run, promote: Promote) -> None:
    Path("numbers.yaml").write_text(NUMBERS)
    locker(Path("docs"), "wool", 3000)
    words = ("release", "promote", "./one", "--docs", "docs", "--to", "prod", "--task", "task.yaml")
    done = run(*words, "--gate", "numbers.yaml", "--new-rules")
    assert done.code == 1
    assert "numbers.yaml has no rule for a task that asks documents" in done.err
    assert "kind: non-inferior, margin: 0.03}" in done.err
    assert "samples" not in done.err


def test_documents_join_a_model_that_had_none(run: Run, promote: Promote) -> None:
    """What compares answers is left untested once, and said to be."""
    Path("numbers.yaml").write_text(NUMBERS)
    words = ("release", "promote", "./one", "--to", "prod", "--task", "task.yaml")
    assert run(*words, "--gate", "numbers.yaml", "--first").code == 0
    lacking = promote("--new-rules", docs=None)
    assert "gate.yaml has a rule for lockers, which asks documents" in lacking.err
    assert "--docs FOLDER" in lacking.err
    done = promote("--new-rules")
    assert done.code == 0, done.err
    assert "Not tested, as there is nothing to compare with: lockers (non-inferior)." in done.out
    event = Aliases().read("prod").events[-1]
    assert event.verdict is not None
    assert event.verdict["body"]["untested"] == ["lockers (non-inferior)"]


@pytest.mark.usefixtures("first_release")
def test_another_alias_is_promoted_with_its_documents(run: Run, promote: Promote) -> None:
    tasks = ("--task", "task.yaml", "--task", "lockers.yaml", "--gate", "gate.yaml")
    done = run("release", "promote", "prod", "--to", "main", "--first", *tasks)
    assert done.code == 0, done.err
    assert Aliases().read("main").release == released()
    refused = run("release", "promote", "prod", "--docs", "docs", "--to", "main", *tasks)
    assert "evaluated without --docs" in refused.err


def test_only_what_is_served_is_evaluated(run: Run, promote: Promote) -> None:
    Path("lockers.yaml").write_text(LOCKERS.replace("docs}", "docs, answers: {max_sentences: 1}}"))
    assert "says answers of the index, and `lmstack up` serves" in promote("--first").err
    agent = "name: lockers\ndata: numbers.jsonl\ninput: x\ntargets: n\nagent:\n"
    Path("lockers.yaml").write_text(agent)
    assert "is a task for an agent" in promote("--first").err
    Path("lockers.yaml").write_text(LOCKERS)
    assert "there is no folder 'nowhere'" in promote("--first", docs="nowhere").err


def test_an_index_that_changes_meanwhile_is_not_promoted(
    run: Run, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its evaluation and its copy."""
    keep = released_documents.keep

    def changing(release: Release, source: Path) -> None:
        locker(Path("docs"), "wool", 3000)
        assert run("index", "update", "--docs", "docs").code == 0
        keep(release, source)

    with monkeypatch.context() as patched:
        patched.setattr(released_documents, "keep", changing)
        done = promote("--first")
    assert done.code == 1
    assert "changed while it was evaluated" in done.err
    assert not Aliases().has("prod")
    assert not any((wiring.home() / "releases").iterdir())
    assert promote("--first").code == 0
