"""Standard streams that are closed or full, and Ctrl-C before the program is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Process

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.mark.parametrize(
    "closed",
    [
        *(pytest.param(one, marks=pytest.mark.long) for one in (">&-", "<&-")),
        "2>&-",
        "<&- >&- 2>&-",
    ],
)
def test_a_closed_standard_stream_is_no_fault(lmstack: Process, closed: str) -> None:
    ran = lmstack("model", "list", shell=closed)
    assert ran.returncode == 0
    assert "Traceback" not in ran.stdout + ran.stderr


def test_an_error_is_still_told_when_stdout_is_closed(lmstack: Process) -> None:
    ran = lmstack("index", "status", "--index", "none.idx", shell=">&-")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: there is no index at 'none.idx'")


def test_no_file_gets_the_number_of_a_closed_stream(lmstack: Process, tmp_path: Path) -> None:
    # What is printed must not land in an index that was opened as file 1.
    (tmp_path / "notes").mkdir()
    probe = (
        "import sys, os; from lmstack.app.cli import main; main(['--version']);"
        f"print(os.open({str(tmp_path / 'probe')!r}, os.O_CREAT | os.O_RDWR) > 2, file=sys.stderr)"
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", '"$@" <&- >&-', "sh", sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr.strip() == "True"


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [pytest.param(["--version"], marks=pytest.mark.long), ["--version", "--json"], ["--help"]],
)
def test_a_full_disk_under_the_output_is_an_error_in_two_lines(
    lmstack: Process, arguments: list[str]
) -> None:
    ran = lmstack(*arguments, shell=">/dev/full")
    assert ran.returncode == 1
    first, second = ran.stderr.splitlines()
    assert first == "error: the output cannot be written: no space left on device"
    assert second.startswith("try:   check where the output goes")


@needs_full
def test_a_json_error_that_cannot_be_written_is_no_traceback(lmstack: Process) -> None:
    ran = lmstack("index", "status", "--index", "none.idx", "--json", shell=">/dev/full")
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 1


def test_ctrl_c_while_modules_are_loaded_is_calm() -> None:
    interrupted = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from lmstack.app.cli import main\n"
        "sys.exit(main(['models']))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 130
    assert ran.stderr == "\nstopped: nothing was changed\n"


def test_json_of_a_failure_is_one_object_whatever_the_encoding(lmstack: Process) -> None:
    encodings = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"}
    ran = lmstack("index", "status", "--index", "nö€".encode(), "--json", **encodings)
    assert json.loads(ran.stdout)["error"]["message"] == "there is no index at 'nö€'"
