"""The frame around every command: help, suggestions, exit codes, errors, start-up."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from lmstack.app import wiring
from lmstack.app.cli.help import OTHER_NAMES, SYNONYMS
from lmstack.app.cli.program import build
from lmstack.core import NotFoundError
from lmstack.serve.tasks import ALIASES, TASKS

if TYPE_CHECKING:
    from tests.app.conftest import Run

ANSI = re.compile(r"\x1b\[")


def every_command() -> list[str]:
    """As typed, without `lmstack`: groups and the commands in them."""

    def walk(node: Any, path: str) -> Iterator[str]:
        for name, child in getattr(node, "commands", {}).items():
            yield f"{path}{name}"
            yield from walk(child, f"{path}{name} ")

    return list(walk(get_command(build()), ""))


def lmstack(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lmstack", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def raises(error: BaseException) -> object:
    def part(*_: object, **__: object) -> object:
        raise error

    return part


def test_lmstack_alone_lists_the_sections_in_the_order_of_the_work(run: Run) -> None:
    ran = run()
    assert ran.code == 0
    found = [line for line in ran.out.splitlines() if re.fullmatch(r"[A-Z]\w+", line)]
    assert found == ["Documents", "Models", "Serve", "Train", "Evaluate", "Operate", "Options"]


def test_every_command_that_is_registered_stands_in_the_overview(run: Run) -> None:
    listed = re.findall(r"^  ([a-z]\w*)   ", run().out, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in every_command() if " " not in name)
    assert run("--help").out == run().out


@pytest.mark.parametrize("typed", every_command())
def test_every_help_fits_its_summary_on_a_line_and_has_an_example(run: Run, typed: str) -> None:
    ran = run(*typed.split(), "--help")
    assert ran.code == 0
    assert len(ran.out.splitlines()[0]) < 80
    _, _, example = ran.out.partition("\nExample\n")
    assert f"lmstack {typed.split()[0]}" in example


def test_a_mistyped_command_names_the_nearest(run: Run) -> None:
    ran = run("doctro")
    assert ran.code == 2
    assert ran.err == "error: lmstack has no command 'doctro'\ntry:   lmstack doctor\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("serve", "up"),
        ("chat", "run chat"),
        ("list", "model list"),
        ("models", "model"),
        ("promote", "release promote"),
        ("rm", "model rm"),
        ("Serve", "up"),
        ("index ls", "index status"),
        ("model ls", "model list"),
        ("serach", "search"),
        ("xyzzy", "--help"),
    ],
)
def test_a_command_of_another_program_names_the_one_that_does_it(
    run: Run, typed: str, meant: str
) -> None:
    ran = run(*typed.split())
    assert ran.code == 2
    assert ran.err.splitlines()[1] == f"try:   lmstack {meant}"


@pytest.mark.parametrize("typed", ["", "index", "model list", "index add"])
def test_help_is_a_command_too(run: Run, typed: str) -> None:
    asked = run("help", *typed.split())
    assert (asked.code, asked.out) == (0, run(*typed.split(), "--help").out)


def test_help_of_an_unknown_command_names_the_nearest(run: Run) -> None:
    ran = run("help", "doctro")
    assert (ran.code, ran.err.splitlines()[1]) == (2, "try:   lmstack doctor")


def test_stop_says_that_nothing_runs_but_up(run: Run) -> None:
    ran = run("stop")
    assert ran.code == 2
    assert ran.err.splitlines()[1] == (
        "try:   Ctrl-C where `lmstack up` runs; nothing else keeps running"
    )


def test_every_synonym_names_a_command_that_exists_and_is_none_itself(run: Run) -> None:
    tasks = {f"run {task}" for task in (*TASKS, *ALIASES)}
    known = {*every_command(), *tasks, "--help", "--version"}
    assert set(SYNONYMS.values()) - known == set()
    assert set(SYNONYMS) & set(every_command()) == set()
    assert len(SYNONYMS) == sum(map(len, OTHER_NAMES.values()))


def test_a_mistyped_option_names_the_nearest(run: Run) -> None:
    ran = run("doctor", "--netwrk")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "error: lmstack doctor has no option '--netwrk'",
        "try:   lmstack doctor --network",
    ]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (["search", "x", "-k", "abc"], ["-k", "'abc'", "integer"]),
        (["search", "x", "-k", "0"], ["-k", "0"]),
        (["search", "x", "--mode", "best"], ["--mode", "'best'", "'hybrid'", "'lexical'"]),
        (["ask", "q", "--docs"], ["--docs"]),
        (["ask"], ["QUESTION"]),
    ],
)
def test_a_wrong_value_is_shown_with_what_it_should_be(
    run: Run, typed: list[str], named: list[str]
) -> None:
    ran = run(*typed)
    assert ran.code == 2
    error, hint = ran.err.splitlines()
    assert [word for word in named if word not in error] == []
    assert hint == f"try:   lmstack {typed[0]} --help"


def test_a_usage_error_under_json_is_an_object_on_stdout(run: Run) -> None:
    ran = run("doctor", "--json", "--netwrk")
    assert ran.code == 2
    assert ran.json["error"]["hint"] == "lmstack doctor --network"
    assert ran.err == ""


def test_an_error_has_the_value_and_what_to_do_and_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = NotFoundError("the model 'x' is not in the store", hint="lmstack pull x", param="model")
    monkeypatch.setattr(wiring, "checks", raises(error))
    ran = run("doctor")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: the model 'x' is not in the store\ntry:   lmstack pull x\n"


def test_an_error_under_json_keeps_code_hint_and_param(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = NotFoundError("no model 'x'", hint="lmstack pull x", param="model")
    monkeypatch.setattr(wiring, "checks", raises(error))
    ran = run("doctor", "--json")
    assert ran.json == {
        "error": {
            "message": "no model 'x'",
            "hint": "lmstack pull x",
            "code": "not_found",
            "param": "model",
        }
    }


def test_an_error_cannot_repaint_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = NotFoundError("no file '\x1b[2Jevil\nerror: forged'")
    monkeypatch.setattr(wiring, "checks", raises(error))
    ran = run("doctor")
    assert "\x1b" not in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_full_disk_is_an_error_with_the_path_and_a_remedy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/store/model.safetensors")
    monkeypatch.setattr(wiring, "checks", raises(error))
    ran = run("doctor")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == ("error: no space left on device (/store/model.safetensors)")
    assert "lmstack model rm" in ran.err


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EACCES])
def test_what_the_system_refuses_about_a_file_is_no_crash(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    error = OSError(number, os.strerror(number), "/some/file")
    monkeypatch.setattr(wiring, "checks", raises(error))
    ran = run("doctor")
    assert ran.code == 1
    assert "/some/file" in ran.err.splitlines()[0]
    assert ran.err.splitlines()[1].startswith("try:   ")


def test_a_fault_of_ours_leaves_a_report_without_prompt_or_key(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "checks", raises(KeyError("my secret question sk-12345")))
    ran = run("doctor")
    assert ran.code == 70
    assert "Traceback" not in ran.err
    [report] = (home / "crashes").iterdir()
    assert str(report) in ran.err
    text = report.read_text()
    assert "test_frame.py" in text
    assert "secret" not in text + ran.err
    assert "sk-12345" not in text + ran.err


def test_a_crash_report_leaves_out_the_arguments(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "verify_audit", raises(RuntimeError()))
    run("audit", "verify", "private-name.log")
    [report] = (home / "crashes").iterdir()
    assert "command: lmstack audit verify\n" in report.read_text()
    assert "private-name" not in report.read_text()


def test_a_crash_with_an_unwritable_home_is_still_one_message(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("a file where the folder should be")
    monkeypatch.setattr(wiring, "checks", raises(KeyError("x")))
    ran = run("doctor")
    assert ran.code == 70
    assert len(ran.err.splitlines()) == 2


def test_ctrl_c_exits_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "checks", raises(KeyboardInterrupt()))
    ran = run("doctor")
    assert ran.code == 130
    assert ran.err == "\nstopped: nothing was changed\n"


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    script = (
        "import sys; from lmstack.app import wiring; from lmstack.app.inspect.checks import Check;"
        "wiring.checks = lambda network: [Check('n', 'ok', 'd' * 100)] * 20000;"
        "from lmstack.app.cli import main; sys.exit(main(['doctor', '--json']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Unbuffered, Python itself ends quietly after a short write, and nothing is tested.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    stderr = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 141
    assert stderr == b""


def test_version_comes_as_text_and_as_json(run: Run) -> None:
    assert re.fullmatch(r"lmstack \d+\.\d+\.\d+\n", run("--version").out)
    assert set(run("--version", "--json").json) == {"version"}


def test_json_may_stand_before_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "checks", lambda network: [])
    assert run("--json", "doctor").json == {"ok": True, "checks": []}


def test_the_overview_loads_neither_torch_nor_numpy_heavy_modules() -> None:
    script = (
        "import sys; from lmstack.app.cli import main; main(['--help']);"
        "heavy = {'torch', 'fastapi', 'transformers', 'rich.console', 'sqlalchemy'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr


def test_piped_output_has_no_colour_even_where_a_terminal_would() -> None:
    ran = lmstack("doctro", env={**os.environ, "TERM": "xterm-256color", "FORCE_COLOR": "1"})
    assert not ANSI.search(ran.stdout + ran.stderr)
    assert ran.returncode == 2


def test_python_dash_m_is_the_same_command() -> None:
    ran = lmstack("--version", "--json")
    assert set(json.loads(ran.stdout)) == {"version"}
