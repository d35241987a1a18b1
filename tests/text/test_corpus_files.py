"""Files and streams as blocks of text."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import NotFoundError
from lmstack.text import TextCorpus, corpus_files, find_files


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("ab \n\té日")), block=st.integers(1, 9))
def test_blocks_join_to_the_text_and_cut_no_run_of_spaces(monkeypatch_module, text, block):
    monkeypatch_module.setattr(corpus_files, "_BLOCK", block)
    blocks = list(TextCorpus(stream=io.BytesIO(text.encode())))
    assert "".join(blocks) == text
    for left, right in pairwise(blocks):
        assert left.endswith("\n")
        assert not right[0].isspace()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_bytes_that_are_no_text_become_replacement_characters():
    assert "".join(TextCorpus(stream=io.BytesIO(b"a\xffb\xc3"))) == "a\ufffdb\ufffd"


def test_a_text_without_line_ends_is_cut_somewhere(monkeypatch):
    monkeypatch.setattr(corpus_files, "_MOST_LEFT", 10)
    monkeypatch.setattr(corpus_files, "_BLOCK", 4)
    blocks = list(TextCorpus(stream=io.BytesIO(b"x" * 100)))
    assert "".join(blocks) == "x" * 100
    assert max(map(len, blocks)) <= 14


def test_files_folders_and_patterns_are_found_once_each(tmp_path):
    for name in ("a.txt", "b.md", "c.bin", "deep/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    names = [str(tmp_path / "c.bin"), str(tmp_path), str(tmp_path / "**" / "*.txt")]
    found = [p.name for p in find_files(names)]
    assert found == ["c.bin", "a.txt", "b.md", "d.txt"]
    corpus = TextCorpus(find_files(names))
    assert corpus.total == sum(map(len, corpus)) == corpus.done
    assert corpus.label == "d.txt"


@pytest.mark.parametrize("name", ["missing.txt", "*.none", ""])
def test_nothing_found_is_an_error_that_names_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="there is no file"):
        find_files([name] if name else ["empty"])
