"""What a key is made of, and a file that others share, fill, damage or mistake."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.tasks import Exact, scripted, sums, task_of

from lmstack.core import FormatError, InputError, IntegrityError, Likelihood, StoreError
from lmstack.evals.json_forms import canonical, output_from_json, output_to_json
from lmstack.evals.output_store import OutputKeys, OutputStore, _use_write_ahead_log
from lmstack.evals.task import Dataset, ModelOutput, Sample, Subject, Task

FEW = settings(max_examples=40, deadline=None)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=3)
TEXTS = st.text(max_size=6)
SAMPLES = st.builds(
    Sample,
    id=st.text(min_size=1, max_size=3),
    input=TEXTS,
    targets=st.lists(TEXTS, max_size=2).map(tuple),
    choices=st.lists(TEXTS, min_size=2, max_size=3).map(tuple),
    gold=st.sampled_from([(), (0,), (1,)]),
    cluster=TEXTS,
    metadata=OBJECTS,
)
OUTPUTS = st.builds(
    ModelOutput,
    text=TEXTS,
    likelihoods=st.lists(
        st.builds(Likelihood, st.floats(allow_nan=False), st.integers(0, 9), st.booleans()),
        max_size=3,
    ).map(tuple),
    prompt_tokens=st.integers(0, 1 << 40),
    completion_tokens=st.integers(0, 1 << 40),
    seconds=st.floats(0, 1e6),
    finish_reason=st.sampled_from(["stop", "length", ""]),
    facts=OBJECTS,
)


@dataclass(frozen=True)
class Solver:
    said: Mapping[str, Any]

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.said

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        raise AssertionError("nobody asks")


@dataclass(frozen=True)
class Scorer(Exact):
    said: Mapping[str, Any] | None = None

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.said or {}


def keys(
    solver: Mapping[str, Any] | None = None,
    scorer: Mapping[str, Any] | None = None,
    digest: str = "sha256:0",
    **task: Any,
) -> OutputKeys:
    made = task_of(solver=Solver(solver or {}), scorer=Scorer(said=scorer), **task)
    return OutputKeys(made, Subject("s", digest))


SAMPLE = Sample("a", "What?")


@FEW
@given(OBJECTS, OBJECTS)
def test_another_solver_never_has_the_same_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    is_same = canonical(one, "it") == canonical(other, "it")
    assert (keys(one).output(SAMPLE) == keys(other).output(SAMPLE)) == is_same


@FEW
@given(SAMPLES, SAMPLES)
def test_another_sample_never_has_the_same_key(one: Sample, other: Sample) -> None:
    is_same = canonical(one.to_json(), "it") == canonical(other.to_json(), "it")
    assert (keys().output(one) == keys().output(other)) == is_same


@FEW
@given(
    st.text(min_size=1, max_size=5),
    st.text(min_size=1, max_size=5),
    st.tuples(st.text(max_size=4), st.integers(1, 3)),
    st.tuples(st.text(max_size=4), st.integers(1, 3)),
)
def test_another_subject_task_or_version_never_has_the_same_key(
    one: str, other: str, task: tuple[str, int], other_task: tuple[str, int]
) -> None:
    key = keys(digest=one, name=task[0], version=task[1]).output(SAMPLE)
    again = keys(digest=other, name=other_task[0], version=other_task[1]).output(SAMPLE)
    assert (key == again) == ((one, task) == (other, other_task))


@FEW
@given(OBJECTS, OBJECTS, OUTPUTS)
def test_another_scorer_has_the_same_outputs_and_never_the_same_scores(
    one: dict[str, Any], other: dict[str, Any], output: ModelOutput
) -> None:
    first, second = keys(scorer=one), keys(scorer=other)
    assert first.output(SAMPLE) == second.output(SAMPLE)
    is_same = canonical(one, "it") == canonical(other, "it")
    assert (first.scores(SAMPLE, output) == second.scores(SAMPLE, output)) == is_same


@FEW
@given(OUTPUTS, OUTPUTS)
def test_another_output_never_has_the_same_scores(one: ModelOutput, other: ModelOutput) -> None:
    parts = [canonical(output_to_json(replace(o, seconds=0.0)), "it") for o in (one, other)]
    found = [keys().scores(SAMPLE, output) for output in (one, other)]
    assert (found[0] == found[1]) == (parts[0] == parts[1])


@FEW
@given(SAMPLES)
def test_the_rest_of_the_data_is_not_part_of_a_key(sample: Sample) -> None:
    more = Dataset("more", (replace(SAMPLE, id="not " + sample.id), sample), "made")
    task = task_of(solver=Solver({}), scorer=Scorer())
    larger = OutputKeys(replace(task, dataset=more), Subject("s", "sha256:0"))
    assert larger.output(sample) == keys().output(sample)


@FEW
@given(OUTPUTS)
def test_an_output_survives_json(output: ModelOutput) -> None:
    again = output_from_json(output_to_json(output))
    assert canonical(output_to_json(again), "it") == canonical(output_to_json(output), "it")


def test_an_output_is_found_by_another_store_on_the_file(tmp_path: Path) -> None:
    output = ModelOutput(
        "yes", (Likelihood(float("-inf"), 2, True),), 3, 4, 0.5, "stop", {"k": [1]}
    )
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        store.keep_output("k", output)
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        assert store.outputs(["k", "other"]) == {"k": output}


def test_what_was_kept_first_stays(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        store.keep_output("k", ModelOutput("first"))
        assert store.keep_output("k", ModelOutput("second")).text == "first"
        assert store.keep_scores("s", {"a": float("nan")}).keys() == {"a"}
        assert store.keep_scores("s", {"a": 1.0})["a"] != 1.0


def test_more_keys_than_a_query_takes_are_found(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        names = [f"k{n}" for n in range(1203)]
        for name in names:
            store.keep_output(name, ModelOutput(name))
        assert {key: each.text for key, each in store.outputs(names).items()} == dict(
            zip(names, names, strict=True)
        )


def test_threads_share_a_store(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs.sqlite") as store:

        def work(number: int) -> None:
            for n in range(40):
                store.keep_output(f"{n}", ModelOutput(f"{number}"))
                store.outputs([f"{n}"])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.outputs(map(str, range(40)))) == 40


def test_a_full_file_lets_go_of_the_oldest(tmp_path: Path) -> None:
    most = 1 << 20
    with OutputStore(tmp_path / "outputs.sqlite", max_bytes=most) as store:
        for n in range(300):
            store.keep_output(f"k{n}", ModelOutput("x" * 10_000))
        kept = store.outputs(f"k{n}" for n in range(300))
    assert 20 < len(kept) < 120
    assert min(int(key[1:]) for key in kept) == 300 - len(kept)
    assert (tmp_path / "outputs.sqlite").stat().st_size < 1.2 * most


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    OutputStore(tmp_path / "deep" / "outputs.sqlite").close()
    assert stat.S_IMODE((tmp_path / "deep" / "outputs.sqlite").stat().st_mode) == 0o600


def test_another_programs_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(FormatError, match="does not hold outputs"):
        OutputStore(path)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("theirs",)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, but long enough to be looked into" * 40)
    with pytest.raises(IntegrityError, match="damaged or holds no outputs"):
        OutputStore(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outputs.sqlite"
    OutputStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FormatError, match="format 99"):
        OutputStore(path)


def test_a_damaged_row_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "outputs.sqlite"
    with OutputStore(path) as store:
        store.keep_output("k", ModelOutput("yes"))
        with sqlite3.connect(path) as connection:
            connection.execute("""UPDATE kept SET body = '{"text": 1}'""")
        connection.close()
        with pytest.raises(IntegrityError, match="cannot be read"):
            store.outputs(["k"])


def test_a_folder_in_the_way_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        OutputStore(tmp_path)


def test_facts_that_are_not_json_are_refused(tmp_path: Path) -> None:
    with (
        OutputStore(tmp_path / "outputs.sqlite") as store,
        pytest.raises(InputError, match="not JSON"),
    ):
        store.keep_output("k", ModelOutput(facts={"when": object()}))


def test_a_protocol_that_is_not_json_is_refused() -> None:
    with pytest.raises(InputError, match="solver of sums"):
        keys({"odd": object()})


def test_the_key_of_a_task_does_not_depend_on_the_process() -> None:
    task: Task = task_of(sums(2))
    subject, _ = scripted()
    found = OutputKeys(task, subject).output(task.dataset.samples[0])
    assert found == "sha256:888721d731fb882920b7c390499d7ea480fd74cb6f5206c20e780fc9826d3e71"


def test_an_output_of_just_the_limit_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ModelOutput("x" * 100)
    size = len(canonical(output_to_json(output), "it"))
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        monkeypatch.setattr("lmstack.evals.output_store.MAX_OUTPUT_BYTES", size - 1)
        with pytest.raises(InputError, match=f"{size} bytes", check=about("max_tokens")):
            store.keep_output("k", output)
        monkeypatch.setattr("lmstack.evals.output_store.MAX_OUTPUT_BYTES", size)
        store.keep_output("k", output)
        assert store.outputs(["k"]) == {"k": output}
        assert repr(store) == f"OutputStore({str(tmp_path / 'outputs.sqlite')!r})"


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="opening") as error:
        OutputStore(tmp_path / "file" / "outputs.sqlite")
    assert str(tmp_path / "file" / "outputs.sqlite") in error.value.message


@pytest.mark.parametrize("size", [(1 << 16) - 1, (1 << 50) + 1, 1e9])
def test_how_large_a_file_may_be_is_checked(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InputError, match="max_bytes", check=about("max_bytes")):
        OutputStore(tmp_path / "outputs.sqlite", max_bytes=size)
    OutputStore(tmp_path / "outputs.sqlite", max_bytes=1 << 16).close()


@pytest.mark.parametrize(("fsync", "level"), [(True, 1), (False, 0)])
def test_the_disk_is_waited_for_unless_told_otherwise(
    tmp_path: Path, fsync: bool, level: int
) -> None:
    with OutputStore(tmp_path / "a.sqlite", fsync=fsync) as store:
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with OutputStore(tmp_path / "b.sqlite") as store:
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_the_last_output_of_a_full_file_is_never_let_go(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs.sqlite", max_bytes=1 << 16) as store:
        for n in range(3):
            store.keep_output(f"k{n}", ModelOutput("x" * 100_000))
        assert list(store.outputs(f"k{n}" for n in range(3))) == ["k2"]


def test_scores_are_found_by_their_key(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs.sqlite") as store:
        assert store.scores("s") is None
        assert store.keep_scores("s", {"a": 0.5, "b": float("inf")}) == {
            "a": 0.5,
            "b": float("inf"),
        }
        assert store.keep_scores("s", {"a": 1.0}) == {"a": 0.5, "b": float("inf")}
        assert store.scores("s") == {"a": 0.5, "b": float("inf")}
        rows = store._connection.execute("SELECT key, kind FROM kept").fetchall()
        assert rows == [("s", "scores")]


def test_another_process_that_makes_the_file_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is busy, and not for ever; any other error is raised at once."""

    class Connection:
        def __init__(self, name: str, fails: int) -> None:
            self.name, self.left, self.asked = name, fails, 0

        def execute(self, query: str) -> None:
            assert query == "PRAGMA journal_mode = WAL"
            self.asked += 1
            if self.left:
                self.left -= 1
                error = sqlite3.OperationalError("locked")
                error.sqlite_errorname = self.name
                raise error

    waits: list[float] = []
    monkeypatch.setattr("lmstack.evals.output_store.time.sleep", waits.append)
    busy = Connection("SQLITE_BUSY_RECOVERY", 3)
    _use_write_ahead_log(busy)  # type: ignore[arg-type]
    assert (busy.asked, waits) == (4, [0.01] * 3)
    with pytest.raises(sqlite3.OperationalError):
        _use_write_ahead_log(Connection("SQLITE_IOERR", 1))  # type: ignore[arg-type]
    monkeypatch.setattr("lmstack.evals.output_store.BUSY_S", -1.0)
    with pytest.raises(sqlite3.OperationalError):
        _use_write_ahead_log(Connection("SQLITE_BUSY", 1))  # type: ignore[arg-type]


def test_the_key_of_scores_does_not_depend_on_the_process() -> None:
    task: Task = task_of(sums(2))
    output = ModelOutput("2", (Likelihood(-1.0, 1, True),), 3, 4, 0.5, "stop", {"k": 1})
    found = OutputKeys(task, scripted()[0]).scores(task.dataset.samples[0], output)
    assert found == "sha256:e77487627286410b13f2b53a1b5601119904bfe039fbbe43d04bec137c18101f"
