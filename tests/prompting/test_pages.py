"""The pages about prompting: their Python and their commands run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.documented import sequences

from lmstack.app.cli import main

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

pytestmark = [pytest.mark.weights, pytest.mark.long]


def blocks(page: str, kind: str) -> Iterator[str]:
    text = (ROOT / "docs" / page).read_text()
    yield from (code for name, code in BLOCK.findall(text) if name == kind)


@pytest.fixture
def folder(
    tmp_path: Path, smollm2: ModelFolder, minilm: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """With the files that the page shows or makes."""
    monkeypatch.setenv("LMSTACK_HOME", str(smollm2.path.parents[1]))
    monkeypatch.chdir(tmp_path)
    [page] = [each for each in sequences(ROOT) if each.name == "docs/prompting.md"]
    for name, text in (page.files | page.made).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("page", ["prompting.md", "structured.md"])
def test_the_python_of_a_page_runs(
    folder: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for code in blocks(page, "python"):
            # As one module that goes on: annotations of classes are looked up in it.
            exec(compile(code, page, "exec"), names)
    finally:
        names["model"].close()
    printed = capsys.readouterr().out
    if page == "structured.md":
        assert re.search(r"^\S.* \d+ \S", printed)
        assert "name='" in printed.splitlines()[-1]
    else:
        assert re.search(r"^(positive|negative)$", printed, re.M)
        assert re.search(r"^\S+.* \d \d+%$", printed, re.M)


def test_the_commands_of_the_page_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [line for block in blocks("prompting.md", "sh") for line in block.splitlines()]
    commands = [line for line in typed if line.startswith("lmstack ")]
    assert len(commands) == 6
    printed = []
    for line in commands:
        words = [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"|\S)+', line)]
        code = main(words[1:])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        printed.append(captured.out)
    assert "budget" in printed[2]
    assert printed[3].startswith("the same version: mood@")
    assert "McNemar" in printed[5]
    assert len((folder / "tried.jsonl").read_text().splitlines()) == 3
