"""Chunks are exact, complete, ordered and within the limit, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag.chunk import ChunkConfig, embedded_text
from lmstack.rag.chunking import chunk_document
from lmstack.rag.formats.load import ProblemError, parse_document

_PIECES = st.sampled_from(
    [
        *("# Title\n", "## Sub *x*\n\n", "- item\n", "  - nested\n", "```\ncode\n", "```\n"),
        *("| a | b |\n|---|---|\n| 1 | 2 |\n", "> quote\n", "Mr. Smith ran. He fell!  "),
        *("[ref]: http://x\n", "---\n", "\ufeff", "é\u0301\U0001f600 ", "<div>\n", "1. one\n"),
        *("Setext\n===\n", "x" * 300, "\t", "\n\n", "\r\n"),
    ]
)
_TEXTS = st.one_of(st.text(max_size=400), st.lists(_PIECES, max_size=25).map("".join))


@settings(max_examples=300, deadline=None)
@given(
    text=_TEXTS,
    suffix=st.sampled_from([".md", ".txt", ".html"]),
    target=st.sampled_from([16, 24, 160]),
)
def test_chunks_are_exact_ordered_complete_and_fit(make_embedder, text, suffix, target):
    try:
        document = parse_document(f"a{suffix}", text.encode("utf-8", "ignore"))
    except ProblemError:
        return
    embedder = make_embedder()
    chunks = chunk_document(document, embedder.count_tokens, 256, ChunkConfig(target_tokens=target))
    covered = 0
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.start >= covered
        assert not document.text[covered : chunk.start].strip().strip("\ufeff").strip()
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.tokens == embedder.count_tokens([embedded_text(chunk.prefix, chunk.text)])[0]
        assert chunk.tokens <= target or len(chunk.text) == 1
        covered = chunk.end
    assert not document.text[covered:].strip().strip("\ufeff").strip()


def test_section_path_is_prefix_and_never_text(embedder):
    text = "# Guide\n\nIntro.\n\n## Setup\n\nInstall it.\n\n### Linux\n\n" + "Run a thing. " * 60
    document = parse_document("g.md", text.encode())
    chunks = chunk_document(document, embedder.count_tokens, 64)
    last = chunks[-1]
    assert last.section == ("Guide", "Setup", "Linux")
    assert last.prefix == "Guide > Setup > Linux"
    assert "Setup" not in last.text


def test_heading_goes_with_what_it_heads(embedder):
    text = "# Guide\n\n" + "word " * 60 + "\n\n" + "more " * 60
    chunks = chunk_document(
        parse_document("g.md", text.encode()),
        embedder.count_tokens,
        256,
        ChunkConfig(target_tokens=80),
    )
    assert chunks[0].text.startswith("# Guide\n\nword")


def test_sections_are_not_mixed(embedder):
    document = parse_document("g.md", b"# A\n\none\n\n# B\n\ntwo\n")
    assert [c.text for c in chunk_document(document, embedder.count_tokens, 256)] == [
        "# A\n\none",
        "# B\n\ntwo",
    ]


def test_code_fence_is_kept_whole_where_it_fits(embedder):
    fence = "```\n" + "run it\n" * 10 + "```"
    text = "Words here. " * 20 + "\n\n" + fence + "\n\n" + "Then more. " * 20
    chunks = chunk_document(
        parse_document("g.md", text.encode()),
        embedder.count_tokens,
        256,
        ChunkConfig(target_tokens=70),
    )
    assert fence in [c.text for c in chunks]


def test_word_that_counts_as_one_token_is_still_cut(embedder):
    document = parse_document("g.txt", b"x" * 100_000)
    chunks = chunk_document(document, embedder.count_tokens, 256, ChunkConfig(target_tokens=100))
    assert max(len(c.text) for c in chunks) <= 1600


def test_limit_below_special_tokens_is_refused(embedder):
    document = parse_document("g.txt", b"words")
    with pytest.raises(InputError, match="special tokens"):
        chunk_document(document, embedder.count_tokens, 2)
