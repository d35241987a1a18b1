"""What a disk refuses is told by the file that it was about, and what was being done."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lmstack.agents import RunStore
from lmstack.agents.mcp import McpServer, Pins
from lmstack.agents.mcp.offers import _parsed
from lmstack.agents.runs import store
from lmstack.agents.runs.store import run_lock
from lmstack.core import IntegrityError, StoreError

SERVER = McpServer("x", command="a")


def fails(*_: object, **__: object) -> None:
    raise OSError(5, "as the disk says")


def test_a_lock_that_cannot_be_opened_or_held_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StoreError, match=f"^opening {tmp_path} failed: Is a directory"),
        run_lock(tmp_path, 1, "r"),
    ):
        pytest.fail("it cannot be held")
    path = tmp_path / "lock"
    with monkeypatch.context() as patch:
        patch.setattr(store.fcntl, "lockf", fails)
        with (
            pytest.raises(StoreError, match=f"^locking {path} failed: as the disk says"),
            run_lock(path, 1, "r"),
        ):
            pytest.fail("it cannot be held")
    assert store._files == {}
    with run_lock(path, 1, "r"), run_lock(path, 2, "s"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert not os.get_inheritable(store._files[path].descriptor)
        with (
            pytest.raises(StoreError, match="the run s is running already"),
            run_lock(path, 2, "s"),
        ):
            pytest.fail("somebody holds it")
        assert store._files[path].held == {1, 2}
    assert store._files == {}


def test_a_store_of_runs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "runs"
    with pytest.raises(StoreError, match=f"^opening {path} failed: "):
        RunStore(path)


def test_approvals_that_cannot_be_read_made_or_removed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = Pins(tmp_path / "pins")
    kept = tmp_path / "pins" / "x.json"
    kept.mkdir(parents=True)
    with pytest.raises(StoreError, match=f"^reading {kept} failed: Is a directory"):
        pins.offer(SERVER, (), {})
    with pytest.raises(StoreError, match=f"^removing {kept} failed: "):
        pins.forget("x")
    kept.rmdir()
    kept.write_bytes(b"\xff")
    with pytest.raises(IntegrityError, match=f"^{kept} is not what was written there"):
        pins.offer(SERVER, (), {})
    pins.forget("x")
    pins.forget("x")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"^making {tmp_path}/file failed: "):
        Pins(tmp_path / "file").approve(SERVER, ())


def test_approvals_are_their_owners_alone_and_in_a_form_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "pins"
    pins = Pins(folder)
    before = os.umask(0)
    try:
        pins.approve(SERVER, ())
    finally:
        os.umask(before)
    kept = folder / "x.json"
    assert [path.stat().st_mode & 0o777 for path in (folder, kept)] == [0o700, 0o600]
    whole = json.loads(kept.read_text())
    assert whole == {"format": 1, "source": SERVER.source, "tools": {}}
    for wrong in ({**whole, "format": 2}, {"format": 1}, [], {**whole, "tools": []}):
        with pytest.raises(IntegrityError, match=f"^{kept} is not what was written there"):
            _parsed(json.dumps(wrong), kept)
    for mode in (0o720, 0o702):
        folder.chmod(mode)
        with pytest.raises(StoreError, match=f"^{folder} can be written by others"):
            pins.offer(SERVER, (), {})
    folder.chmod(0o755)
    for mode in (0o620, 0o602):
        kept.chmod(mode)
        with pytest.raises(StoreError, match=f"^{kept} can be written by others"):
            pins.offer(SERVER, (), {})
    kept.chmod(0o644)
    assert pins.offer(SERVER, (), {}).server == "x"
