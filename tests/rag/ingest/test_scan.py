"""A walk finds what can be read, reports what cannot, and leaves the folder never."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lmstack.core import NotFoundError
from lmstack.rag.documents import Problem
from lmstack.rag.ingest.scan import FoundFile, PassedOver, scan_source

in_utf8 = pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8",
    reason="the locale cannot write these names of files: set LC_ALL=C.UTF-8",
)


def _scan(root: Path) -> tuple[list[str], dict[str, str]]:
    results = list(scan_source(root))
    found = [r.path for r in results if isinstance(r, FoundFile)]
    return found, {r.path: r.kind for r in results if isinstance(r, Problem)}


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")


def test_hidden_junk_and_unknown_files_are_passed_over(tmp_path):
    for name in ["a.md", "sub/b.TXT", ".git/c.md", ".d.md", "node_modules/e.md", "f.png"]:
        _touch(tmp_path / name)
    assert _scan(tmp_path) == (["a.md", "sub/b.TXT"], {})


def test_what_is_passed_over_says_why_and_hidden_files_are_not_told(tmp_path):
    names = ["a.md", "f.png", "Mr. Smith", "build/o.md", ".git/c.md", ".d.png", "draft/x.md"]
    for name in names:
        _touch(tmp_path / name)
    (tmp_path / "l.zip").symlink_to(tmp_path.parent)
    (tmp_path / ".lmstackignore").write_text("draft/\n")
    passed = [r for r in scan_source(tmp_path) if isinstance(r, PassedOver)]
    assert [(r.path, r.reason, r.ending) for r in passed] == [
        ("Mr. Smith", "ending", ""),
        ("build", "folder", ""),
        ("draft", "pattern", ""),
        ("f.png", "ending", ".png"),
    ]


def test_link_to_a_folder_above_is_a_loop_and_not_followed(tmp_path):
    _touch(tmp_path / "docs/a.md")
    (tmp_path / "docs/up").symlink_to(tmp_path)
    (tmp_path / "docs/self").symlink_to(tmp_path / "docs")
    assert _scan(tmp_path / "docs") == (["a.md"], {"up": "symlink", "self": "symlink"})


def test_link_out_of_the_folder_is_reported_and_not_followed(tmp_path):
    _touch(tmp_path / "secret.md")
    _touch(tmp_path / "docs/a.md")
    (tmp_path / "docs/b.md").symlink_to(tmp_path / "secret.md")
    assert _scan(tmp_path / "docs") == (["a.md"], {"b.md": "symlink"})


def test_link_within_the_folder_is_not_a_second_document(tmp_path):
    _touch(tmp_path / "a.md")
    (tmp_path / "b.md").symlink_to("a.md")
    assert _scan(tmp_path) == (["a.md"], {})


@pytest.mark.parametrize("target", ["nowhere.md", "a.md"])
def test_broken_and_circular_links_are_reported(tmp_path, target):
    (tmp_path / "a.md").symlink_to(target)
    assert _scan(tmp_path) == ([], {"a.md": "symlink"})


def test_name_with_a_newline_is_reported_on_one_line(tmp_path):
    _touch(tmp_path / "a\nb.md")
    assert _scan(tmp_path) == ([], {"a\\nb.md": "name"})


@in_utf8
def test_name_that_is_not_utf8_is_reported(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("text")
    found, problems = _scan(tmp_path)
    assert found == []
    assert list(problems.values()) == ["name"]
    assert all(path.encode("utf-8") for path in problems)


def test_a_locale_that_cannot_read_a_name_is_named(tmp_path, monkeypatch):
    _touch(tmp_path / "Ma\x9f.md")  # what ISO 8859-1 makes of the letter ß in UTF-8
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    [problem] = scan_source(tmp_path)
    assert isinstance(problem, Problem)
    assert problem.hint.startswith("the locale reads names of files as iso8859-1")


@in_utf8
def test_name_that_turns_the_reading_order_is_reported(tmp_path):
    _touch(tmp_path / "a\u202edm.md")
    assert _scan(tmp_path) == ([], {"a\\u202edm.md": "name"})


@in_utf8
def test_name_with_unusual_spaces_and_scripts_is_fine(tmp_path):
    for name in ["a\u00a0b.md", "c\u3000d.md", "\u0645\u06cc\u200c\u0631\u0648\u0645.md"]:
        _touch(tmp_path / name)
    assert len(_scan(tmp_path)[0]) == 3


def test_pipe_is_reported(tmp_path):
    os.mkfifo(tmp_path / "a.md")
    assert _scan(tmp_path) == ([], {"a.md": "special"})


def test_folder_that_cannot_be_listed_costs_itself_only(tmp_path, monkeypatch):
    _touch(tmp_path / "a.md")
    _touch(tmp_path / "closed/b.md")
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert _scan(tmp_path) == (["a.md"], {"closed": "closed"})


def test_single_file_is_a_source(tmp_path):
    _touch(tmp_path / "a.md")
    assert _scan(tmp_path / "a.md") == (["."], {})


def test_missing_source_is_an_error(tmp_path):
    with pytest.raises(NotFoundError, match="none"):
        _scan(tmp_path / "none")


def test_hundred_folders_deep_is_walked(tmp_path):
    _touch(tmp_path / "/".join(["d"] * 100) / "a.md")
    assert len(_scan(tmp_path)[0]) == 1
