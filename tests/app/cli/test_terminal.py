"""What changes on a terminal: colour, bars, and nothing else. Run under a pseudo-terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

INDEXING = """
import sys, time, numpy as np
from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.core import ModelInfo

class Slow:
    info = ModelInfo("slow", "sha256:0")
    dimensions, max_tokens = 4, 100
    def embed(self, texts, kind="passage"):
        time.sleep(0.3)
        return np.full((len(texts), 4), 0.5, np.float32)
    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

wiring.embedder = lambda name: Slow()
sys.exit(main(sys.argv[1:]))
"""


def on_terminal(script: str, *arguments: str, cwd: Path, **variables: str) -> tuple[int, str]:
    """Exit code and everything that reached the terminal."""
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "COLUMNS")},
        "TERM": "xterm-256color",
        "LMSTACK_HOME": str(cwd / "home"),
        **variables,
    }
    process, master = pty.fork()
    if process == 0:
        os.chdir(cwd)
        os.execve(sys.executable, [sys.executable, "-c", script, *arguments], environment)
    chunks = []
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(master)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status, b"".join(chunks).decode()


COMMAND = "import sys; from lmstack.app.cli import main; sys.exit(main(sys.argv[1:]))"


def test_an_error_is_coloured_only_in_its_label(tmp_path: Path) -> None:
    code, shown = on_terminal(COMMAND, "doctro", cwd=tmp_path)
    assert code == 2
    assert shown.splitlines() == [
        "\x1b[31merror:\x1b[0m lmstack has no command 'doctro'",
        "try:   lmstack doctor",
    ]


@pytest.mark.parametrize(
    "variables", [{"NO_COLOR": "1"}, pytest.param({"TERM": "dumb"}, marks=pytest.mark.long)]
)
def test_colour_can_be_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    _, shown = on_terminal(COMMAND, "doctro", cwd=tmp_path, **variables)
    assert "\x1b" not in shown


def test_json_is_plain_on_a_terminal_too(tmp_path: Path) -> None:
    _, shown = on_terminal(COMMAND, "--version", "--json", cwd=tmp_path)
    assert "\x1b" not in shown


def test_a_bar_shows_rate_and_time_left_and_leaves_the_result(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(3):
        (tmp_path / "docs" / f"{number}.txt").write_text(f"Number {number}.")
    code, shown = on_terminal(
        INDEXING, "index", "add", "--index", "my.idx", "docs", cwd=tmp_path, COLUMNS="120"
    )
    assert code == 0
    assert "Indexing" in shown
    assert "of 3 files" in shown
    assert shown.rstrip().endswith(" s")
    assert "3 added" in shown.splitlines()[-1]
