"""A few documents tell in which languages a folder is, and nothing else counts."""

from __future__ import annotations

import pytest

from lmstack.core import ModelInfo, NotFoundError
from lmstack.rag.ingest import reading as languages
from lmstack.rag.ingest.reading import sampled_languages
from lmstack.rag.retrieve.stages import reads_most

GERMAN = "Der Drucker steht im Flur neben der Küche und wird jeden Morgen eingeschaltet. "
ENGLISH = "The printer stands in the hall beside the kitchen and is switched on every morning. "


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text * 5)


def test_languages_are_counted_and_what_has_none_is_not(tmp_path):
    write(tmp_path, "a.md", GERMAN)
    write(tmp_path, "below/b.txt", GERMAN)
    write(tmp_path, "c.txt", ENGLISH)
    write(tmp_path, "d.py", "print(1)\n")
    write(tmp_path, "e.csv", "1;2\n")
    (tmp_path / "f.txt").write_bytes(b"a\x00b")
    (tmp_path / "g.png").write_bytes(b"PNG")
    assert sampled_languages([tmp_path]) == {"de": 2, "en": 1}
    assert sampled_languages([tmp_path / "c.txt", tmp_path / "below"]) == {"de": 1, "en": 1}


def test_of_many_documents_those_from_all_over_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "SAMPLE", 4)
    for number in range(40):
        write(tmp_path, f"{number:02}.txt", ENGLISH if number < 20 else GERMAN)
    assert sampled_languages([tmp_path]) == {"en": 2, "de": 2}


def test_large_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "MAX_BYTES", 1_000)
    write(tmp_path, "a.txt", ENGLISH * 50)
    write(tmp_path, "b.txt", GERMAN)
    assert sampled_languages([tmp_path]) == {"de": 1}


def test_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotFoundError):
        sampled_languages([tmp_path / "gone"])
    assert not sampled_languages([tmp_path])


@pytest.mark.parametrize(
    ("reads", "found", "expected"),
    [
        (("en",), ["en", "de", "de"], False),
        (("en",), ["en", "de"], True),
        (("en",), ["", "", "de", ""], False),
        (("en",), ["", ""], True),
        (("en",), [], True),
        (("de", "en"), ["de", "fr", "en"], True),
        ((), ["de", "ja"], True),  # a model of many languages, or of which nothing is known
    ],
)
def test_model_is_for_passages_if_it_reads_half_of_those_that_are_known(reads, found, expected):
    assert reads_most(ModelInfo("m", languages=reads), found) is expected
