"""The report counts what is there, and counts again."""

from __future__ import annotations

import sqlalchemy as sa

from lmstack.rag import ChunkConfig, Index, IndexConfig
from lmstack.rag.catalogue.schema import chunks


def _filled(tmp_path, embedder, **texts):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)
    config = IndexConfig(chunking=ChunkConfig(target_tokens=24))
    index = Index.open(tmp_path / "index", embedder, config=config)
    index.update([folder])
    return index


def test_report_counts_formats_orphans_tiny_and_repeats(tmp_path, embedder):
    same = "The same words stand in both of these files, word for word, all of them."
    with _filled(
        tmp_path, embedder, a_txt=same, b_txt=same, c_md="# Head\n\nIt is short.\n"
    ) as index:
        report = index.report()
    assert (report.documents, report.chunks) == (3, 3)
    assert (report.orphans, report.tiny, report.duplicates, report.truncated) == (2, 1, 1, 0)
    assert [(f.format, f.chunks, f.orphans) for f in report.formats] == [
        ("markdown", 1, 0),
        ("text", 2, 2),
    ]
    assert report.recounted
    assert report.wrong_counts == 0


def test_spread_is_that_of_the_sizes(tmp_path, embedder):
    with _filled(tmp_path, embedder, a_txt="word " * 500) as index:
        report = index.report()
    tokens = sorted(t for t, _ in report.sizes)
    assert (report.tokens.least, report.tokens.most) == (tokens[0], tokens[-1])
    assert report.tokens.median in (tokens[len(tokens) // 2], tokens[(len(tokens) - 1) // 2])
    assert report.tokens.most <= 24


def test_chunk_over_the_limit_of_the_embedder_is_found(tmp_path, embedder):
    with _filled(tmp_path, embedder, a_txt="word " * 100) as index:
        with index._database.writing() as connection:
            connection.execute(sa.update(chunks).values(prefix="x " * 300))
        report = index.report()
    assert report.truncated == report.chunks == report.wrong_counts


def test_empty_index_has_an_empty_report(tmp_path, embedder):
    with Index.open(tmp_path / "index", embedder) as index:
        report = index.report()
    assert (report.chunks, report.tokens.most, report.formats) == (0, 0, ())
