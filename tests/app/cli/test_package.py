"""The package itself: lazy names, `lmstack.load`, the written command reference, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lmstack
from lmstack.app.cli import docs
from lmstack.core import NotFoundError

ROOT = Path(lmstack.__file__).parents[2]


@pytest.mark.parametrize("name", [n for n in lmstack.__all__ if n != "__version__"])
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(lmstack, name))


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Anserer"):
        _ = lmstack.Anserer


def test_importing_lmstack_loads_nothing_heavy() -> None:
    script = (
        "import sys, lmstack; heavy = {'torch', 'numpy', 'fastapi', 'typer', 'sqlalchemy'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert child.returncode == 0, child.stderr


def test_loading_a_missing_model_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path))
    with pytest.raises(NotFoundError, match="lmstack pull smollm2-135m-instruct"):
        lmstack.load("smollm2-135m-instruct")


def test_the_command_reference_is_fresh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert docs.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_command_reference_is_found_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0


def test_a_shell_can_complete_commands() -> None:
    variables = {
        **os.environ,
        "_LMSTACK_COMPLETE": "complete_bash",
        "COMP_WORDS": "lmstack doc",
        "COMP_CWORD": "1",
    }
    child = subprocess.run(
        [sys.executable, "-m", "lmstack"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout.split() == ["doctor"], child.stderr
