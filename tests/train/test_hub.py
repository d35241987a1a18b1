"""Data sets of Hugging Face: which rows they give, under which name, and what is said of wrong
ones. The Hub itself is played by hand; folders go through the library."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import httpx2
import huggingface_hub
import pytest
from tests.errors import about
from tests.train import runs

from lmstack.core import ExtraMissingError, InputError, NotFoundError, RemoteError
from lmstack.registry import Store
from lmstack.train import train
from lmstack.train.data.rows import Row, Rows, find_data

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"text": f"the cat number {n}", "tags": [n]} for n in range(5)]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as people keep them: a file a split."""
    found = tmp_path / "cats"
    found.mkdir()
    for split, rows in (("train", ROWS), ("test", ROWS[:2])):
        (found / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def rows_of(*names: str) -> list[dict[str, Any]]:
    return [dict(row.values) for row in Rows(find_data(names)) if isinstance(row, Row)]


def test_a_folder_gives_the_rows_of_a_split(folder: Path) -> None:
    assert rows_of(f"hf:{folder}") == ROWS
    assert rows_of(f"hf:{folder}#test") == ROWS[:2]
    assert rows_of(f"hf:{folder}#train[1:3]") == ROWS[1:3]
    assert rows_of(f"hf:{folder}:default#test", f"hf:{folder}#test") == ROWS[:2] * 2


def test_what_was_saved_to_disk_is_read_as_well(tmp_path: Path) -> None:
    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": one.select([4])}).save_to_disk(str(tmp_path / "dict"))
    assert rows_of(f"hf:{tmp_path / 'one'}") == ROWS
    assert rows_of(f"hf:{tmp_path / 'dict'}#test") == ROWS[4:]
    with pytest.raises(
        InputError, match="it has the splits test, and no train", check=about("data")
    ):
        rows_of(f"hf:{tmp_path / 'dict'}")


def test_a_folder_is_written_again_only_where_it_changed(folder: Path) -> None:
    (first,) = find_data([f"hf:{folder}#test"])
    stamp = first.stat()
    (again,) = find_data([f"hf:{folder}#test"])
    assert (again, again.stat().st_ino) == (first, stamp.st_ino)
    (folder / "test.jsonl").write_text(json.dumps({"text": "a dog", "tags": [1]}) + "\n")
    assert rows_of(f"hf:{folder}#test") == [{"text": "a dog", "tags": [1]}]


class Hub:
    """Answers as the Hub does, and keeps what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def dataset_info(self, name: str, *, revision: str | None) -> Any:
        self.asked.append(("info", name, revision))
        return SimpleNamespace(sha=COMMIT)

    def load(self, name: str, config: str | None, *, split: str, revision: str) -> Any:
        self.asked.append(("load", name, config, split, revision))
        return datasets.Dataset.from_list(ROWS)


def test_a_data_set_of_the_hub_is_fetched_once_and_its_commit_is_in_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch)
    (file,) = find_data(["hf:org/cats@v2:german#test"])
    loaded = ("load", "org/cats", "german", "test", COMMIT)
    assert hub.asked == [("info", "org/cats", "v2"), loaded]
    assert file == tmp_path / f"home/datasets/org--cats@{COMMIT}--german--test.parquet"
    assert find_data(["hf:org/cats@v2:german#test"]) == [file]
    assert hub.asked[2:] == [("info", "org/cats", "v2")]  # the commit alone, which may have moved
    # By its commit it is found without asking.
    assert find_data([f"hf:org/cats@{COMMIT}:german#test"]) == [file]
    assert len(hub.asked) == 3
    find_data(["hf:cats"])
    assert hub.asked[3:] == [("info", "cats", None), ("load", "cats", None, "train", COMMIT)]


def test_a_run_has_the_commit_in_its_lineage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub(monkeypatch)
    runs.prepare_folder(tmp_path)
    recipe = runs.recipe(tmp_path, steps=1, validation=0).replace(data=("hf:org/cats",))
    training = Store().resolve(str(train(recipe).folder)).card.training
    assert training is not None
    assert [file["name"] for file in training.data] == [f"org--cats@{COMMIT}--train.parquet"]
    assert training.recipe["data"] == ["hf:org/cats"]


def test_other_columns_are_named(folder: Path, tmp_path: Path) -> None:
    runs.prepare_folder(tmp_path)
    recipe = runs.recipe(tmp_path, kind="sft-lora", validation=0).replace(data=(f"hf:{folder}",))
    with pytest.raises(
        InputError, match=r"the columns 'tags, text', and no conversation", check=about("data")
    ):
        train(recipe)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'org/x' doesn't exist on the Hub"),
            NotFoundError,
            "there is no data set 'hf:org/x', or none that you may read: Dataset 'org/x'",
        ),
        (ConnectionError("no route"), RemoteError, "could not be fetched: ConnectionError: no"),
        (httpx2.ConnectError("no name"), RemoteError, "could not be fetched: ConnectError: no"),
        (
            ValueError("Unknown split \"dev\". Should be one of ['train']."),
            InputError,
            "cannot be read: Unknown split",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            InputError,
            "cannot be read: Dataset scripts are no longer",
        ),
    ],
)
def test_what_the_libraries_say_is_said_in_words(
    error: Exception, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch)

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(hub, "load", fails)
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(kind) as found:
        find_data(["hf:org/x"])
    assert said in str(found.value)
    assert getattr(found.value, "param", None) == (None if kind is RemoteError else "data")


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none.*default", check=about("data")):
        find_data([f"hf:{folder}:none#test"])
    with pytest.raises(InputError, match=r"Unknown split .*dev.*train", check=about("data")):
        find_data([f"hf:{folder}#dev"])


@pytest.mark.parametrize("name", ["hf:", "hf:#test", "hf:a@", "hf:a@b@c", "hf:a:"])
def test_what_names_no_data_set_is_said(name: str) -> None:
    with pytest.raises(InputError, match="names no data set", check=about("data")):
        find_data([name])


def test_a_folder_has_no_revision(folder: Path) -> None:
    with pytest.raises(
        InputError, match="is a folder, which has no revision 'v2'", check=about("data")
    ):
        find_data([f"hf:{folder}@v2"])


@pytest.mark.parametrize("library", ["datasets", "huggingface_hub"])
def test_without_the_library_the_extra_is_named(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraMissingError) as error:
        find_data(["hf:org/cats"])
    assert error.value.hint == "pip install 'lmstack[datasets]'"
