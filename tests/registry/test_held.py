"""Files that are held while they are read: the same ones whatever is renamed, or an error."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from lmstack.core import FormatError, IntegrityError, StoreError
from lmstack.registry import held
from lmstack.registry.held import held_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "1_Pooling/config.json", "not-listed"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


NAMES = ("config.json", "1_Pooling/config.json")


@pytest.fixture(params=["links", "no links", "no place"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """One with links to descriptors, and two without."""
    if request.param == "no links":
        monkeypatch.setattr(os.path, "exists", lambda _: False)
    if request.param == "no place":
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    return str(request.param)


def test_what_is_held_reads_as_it_was(folder: Path, system: str) -> None:
    with held_files(folder, NAMES) as place:
        assert [(place / name).read_text() for name in NAMES] == list(NAMES)
        assert (place == folder) == (system != "links")
    assert folder.is_dir()


def test_files_that_are_not_named_are_not_seen(folder: Path) -> None:
    with held_files(folder, NAMES) as place:
        found = {path.relative_to(place).as_posix() for path in place.rglob("*")}
    assert found == {*NAMES, "1_Pooling"}
    assert not place.exists()


def test_a_renamed_file_is_still_the_one_of_before(folder: Path) -> None:
    with held_files(folder, NAMES) as place:
        folder.rename(folder.with_name("away"))
        folder.mkdir()
        (folder / NAMES[0]).write_text("another")
        assert (place / NAMES[0]).read_text() == NAMES[0]


def test_without_links_a_renamed_file_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "_linked", lambda *_: None)

    def renamed(path: Path) -> None:
        path.with_name("new").write_text("another")
        path.with_name("new").rename(path)

    with pytest.raises(IntegrityError, match="changed while"), held_files(folder, NAMES):
        renamed(folder / NAMES[0])
    shutil.copytree(folder, folder.with_name("same"))
    with pytest.raises(IntegrityError, match="changed while"), held_files(folder, NAMES):
        swapped_with_a_copy(folder)


def swapped_with_a_copy(folder: Path) -> None:
    """Nothing is done to the files themselves."""
    folder.rename(folder.with_name("away"))
    folder.with_name("same").rename(folder)


def test_a_file_changed_at_once_after_it_was_written_is_an_error(folder: Path, system: str) -> None:
    """Within one step of the clock that dates files, too: size and times stay as they were."""
    path = folder / NAMES[1]

    def changed() -> None:
        before = path.stat()
        path.write_text("other")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    for _ in range(5):
        path.write_text("first")
        with pytest.raises(IntegrityError, match="changed while"), held_files(folder, NAMES):
            changed()


@pytest.mark.parametrize("age", [0.001, 0.019, -0.001])
def test_a_file_within_a_step_of_the_clock_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    newest = max((folder / name).stat().st_ctime for name in NAMES)
    waited: list[float] = []
    monkeypatch.setattr(time, "time", lambda: newest + age)
    monkeypatch.setattr(time, "sleep", waited.append)
    with held_files(folder, NAMES):
        assert waited == [held.CLOCK_STEP_S]


def test_old_files_are_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    with held_files(folder, NAMES):
        pass


def test_an_error_names_the_file_where_it_lies(folder: Path) -> None:
    with pytest.raises(FormatError) as caught, held_files(folder, NAMES) as place:
        raise FormatError(f"{place / NAMES[0]} is damaged", hint=f"delete {place}")
    assert caught.value.message == f"{folder / NAMES[0]} is damaged"
    assert str(caught.value) == f"{folder / NAMES[0]} is damaged (delete {folder})"
    assert caught.value.args == (caught.value.message,)
    with pytest.raises(FormatError, match="no hint") as caught, held_files(folder, NAMES):
        raise FormatError("no hint")
    assert caught.value.hint is None


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(StoreError, match=str(folder / "none")), held_files(folder, ["none"]):
        pass


def test_nothing_is_held_open_afterwards(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with held_files(folder, NAMES):
        assert len(os.listdir("/proc/self/fd")) == len(before) + len(NAMES)
    assert len(os.listdir("/proc/self/fd")) == len(before)
