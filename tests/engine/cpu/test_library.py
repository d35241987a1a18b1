"""Finding, checking and choosing native ops."""

from __future__ import annotations

import ctypes
import shlex
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.engine.cpu.calls import on_path

from lmstack.core import EngineError, LmstackError, UnsupportedError
from lmstack.engine.cpu import library, mirrors
from lmstack.engine.cpu.library import available_paths, load, select_path, selected_path

Look = Callable[[], tuple[ctypes.CDLL | None, str]]
NAME = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture
def looked_up() -> Look:
    """A first look for native ops; what this process has found before stays."""
    return library._found.__wrapped__


def test_the_best_path_is_chosen_and_portable_is_always_there(paths: list[str]) -> None:
    assert paths[-1] == "portable"
    with on_path(None):
        assert selected_path() == paths[0]


def test_a_chosen_path_is_the_one_that_computes(paths: list[str]) -> None:
    for name in paths:
        with on_path(name) as path:
            assert (selected_path(), path.name.decode()) == (name, name)


def test_a_path_that_does_not_exist_names_those_that_do(paths: list[str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        select_path("avx3")
    assert "'avx3'" in caught.value.message
    assert all(name in (caught.value.hint or "") for name in paths)


def test_a_path_of_other_processors_is_refused_as_such(paths: list[str]) -> None:
    missing = "neon" if "neon" not in paths else "avx2"
    with pytest.raises(UnsupportedError, match="cannot run on this processor"):
        select_path(missing)


def test_a_build_of_other_headers_is_refused(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "headers_fingerprint", lambda: 1)
    with pytest.raises(EngineError, match="other sources: headers") as caught:
        load(library.FOLDER / NAME)
    assert "pip install" in (caught.value.hint or "")


@pytest.mark.parametrize("name", mirrors.STRUCTS)
def test_a_build_whose_structs_are_longer_than_their_mirrors_is_refused(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Shorter(ctypes.Structure):
        _fields_: ClassVar = mirrors.STRUCTS[name]._fields_[:-1]

    monkeypatch.setitem(mirrors.STRUCTS, name, Shorter)
    with pytest.raises(EngineError, match=rf"other sources: {name}\b"):
        load(library.FOLDER / NAME)


@pytest.mark.parametrize("name", mirrors.STRUCTS)
def test_fields_that_changed_places_are_refused_by_name(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two neighbours of one size: no size and no offset is another one, only their names."""
    fields = list(mirrors.STRUCTS[name]._fields_)
    kinds = [ctypes.sizeof(kind) for _, kind in fields]
    first = next(i for i in range(len(kinds) - 1) if kinds[i] == kinds[i + 1])
    fields[first : first + 2] = fields[first + 1], fields[first]

    class Swapped(ctypes.Structure):
        _fields_: ClassVar = fields

    monkeypatch.setitem(mirrors.STRUCTS, name, Swapped)
    with pytest.raises(EngineError, match=rf"other sources: {name}\.\w+ is \d+ there"):
        load(library.FOLDER / NAME)


def test_spans_that_lie_otherwise_are_refused(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [(name, kind) for name, (kind, *_) in (mirrors.SPAN.fields or {}).items()]
    monkeypatch.setattr(mirrors, "SPAN", np.dtype([fields[1], fields[0], *fields[2:]]))
    with pytest.raises(EngineError, match=r"lm_span\.count|lm_span\.row"):
        load(library.FOLDER / NAME)


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_a_file_that_is_no_library_is_a_problem_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_up: Look, content: bytes
) -> None:
    (tmp_path / NAME).write_bytes(content)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.delenv(library.VARIABLE, raising=False)
    found, why = looked_up()
    assert found is None
    assert "cannot be loaded" in why


def test_without_a_build_the_engine_is_told_to_ask_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_up: Look
) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "_found", looked_up)
    assert available_paths() == []
    assert selected_path() is None
    with pytest.raises(EngineError, match="not built") as caught:
        library.native()
    assert caught.value.hint == "lmstack doctor"


def test_the_variable_switches_native_ops_off(
    monkeypatch: pytest.MonkeyPatch, looked_up: Look
) -> None:
    monkeypatch.setenv(library.VARIABLE, "none")
    assert looked_up() == (None, "switched off by LMSTACK_KERNELS=none")


def test_a_variable_that_names_no_path_is_an_error(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, looked_up: Look
) -> None:
    monkeypatch.setenv(library.VARIABLE, "fastest")
    with pytest.raises(LmstackError, match="'fastest'") as caught:
        looked_up()
    assert caught.value.param == library.VARIABLE


def test_the_command_that_builds_quotes_paths_with_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "Größe und Maß"
    clone.mkdir()
    (clone / "setup.py").touch()
    monkeypatch.setattr(library, "__file__", str(clone / "src/lmstack/engine/cpu/library.py"))
    monkeypatch.setattr(sys, "executable", str(clone / ".venv/bin/python"))
    words = shlex.split(library.rebuilding())
    assert words[0] == str(clone / ".venv/bin/python")
    assert words[-2:] == ["--editable", str(clone)]
