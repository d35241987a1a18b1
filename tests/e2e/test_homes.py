"""Users without a home folder, homes that are files, words that are no text."""

from __future__ import annotations

import pwd
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app import wiring
from lmstack.app.cli import indexing, main, program

if TYPE_CHECKING:
    from tests.e2e.conftest import Process


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs under a bare number: no HOME, no entry among the users."""

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "LMSTACK_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_without_a_home_is_told_to_set_one(
    nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "list"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: no home folder is known for ~ in ~/.local/share"
    assert "set LMSTACK_HOME" in second


def test_a_fault_of_ours_is_told_even_where_no_report_can_be_written(
    nobody: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "models", lambda: 1 / 0)
    assert main(["model", "list"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_home_of_an_unknown_user_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", "~no-such-user/store")
    assert main(["model", "list"]) == 1
    assert "~no-such-user" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ask", "search"])
def test_words_that_are_not_utf8_are_named_as_the_user_knows_them(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "letters \udcff", "--docs", "x"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    what = "question" if command == "ask" else "query"
    assert first == f"error: the {what} is not valid UTF-8 (byte 0xff at character 8)"
    assert "UTF-8" in second


def test_a_question_without_quotes_is_told_to_use_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ask", "How", "long", "--docs", "x"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: lmstack ask got more than it takes: long"
    assert "quotes" in second


def test_more_passages_than_an_answer_can_weigh_is_a_mistake_of_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ask", "How long?", "--docs", "x", "-k", "101"]) == 2
    assert "-k is '101'" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["", " ", "a\nb"])
def test_a_host_that_is_no_address_is_shown(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", ".", "--host", host]) == 2
    assert f"error: --host is {host!r}" in capsys.readouterr().err.replace("\\\\", "\\")


def test_the_note_of_ctrl_c_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(indexing, "open_source", stop)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    assert program.run(["ask", "\x1b]0;owned\x07", "--docs", "x"], time.monotonic()) == 130
    assert "\x1b" not in capsys.readouterr().err


def test_a_store_that_is_a_file_is_an_error_in_two_lines(lmstack: Process, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = lmstack("model", "list", LMSTACK_HOME=str(tmp_path / "file"))
    assert ran.returncode == 1
    assert "a file is in the way" in ran.stderr.splitlines()[1]
