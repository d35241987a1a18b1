"""Every strategy gives chunks that are exact, complete, ascending and within the limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError, ScriptedModel
from lmstack.rag.chunk import ChunkConfig, embedded_text
from lmstack.rag.chunking import Chunker, ContextWriter, chunk_document
from lmstack.rag.documents import Block, Document, Section
from lmstack.rag.formats.load import ProblemError, parse_document

_PIECES = st.sampled_from(
    [
        *("# Title\n", "## Sub *x*\n\n", "- item\n", "```\ncode\n", "```\n", "\n\n", "\r\n", "\t"),
        *("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n", "Mr. Smith ran. He fell!  ", "\ufeff"),
        *("é\u0301\U0001f600 ", "x" * 300, "a\u00a0b", "\x0b", "\u2028", "\x1c", "one two three "),
        *(
            "彼は走った。そして転んだ！",
            "http://example.org/a/very/long/path/of/some/thing/or/other ",
        ),
    ]
)
_TEXTS = st.one_of(st.text(max_size=300), st.lists(_PIECES, max_size=25).map("".join))
_CONFIGS = st.sampled_from(
    [
        ("structure", 0),
        ("fixed", 0),
        ("fixed", 7),
        ("sentence", 0),
        ("sentence", 2),
        ("recursive", 0),
        ("recursive", 6),
        ("semantic", 0),
    ]
)


@pytest.fixture(scope="session")
def by_word(make_embedder):
    """An embedder that says that its counts of words add up, as they do."""
    embedder = make_embedder()
    embedder.counts_by_word = True
    return embedder


@settings(max_examples=400, deadline=None)
@given(
    text=_TEXTS,
    suffix=st.sampled_from([".md", ".txt"]),
    chosen=_CONFIGS,
    target=st.sampled_from([16, 24, 60]),
    fast=st.booleans(),
)
def test_chunks_are_exact_ascending_complete_and_fit(
    make_embedder, by_word, text, suffix, chosen, target, fast
):
    try:
        document = parse_document(f"a{suffix}", text.encode("utf-8", "ignore"))
    except ProblemError:
        return
    embedder = by_word if fast else make_embedder()
    strategy, overlap = chosen
    config = ChunkConfig(strategy=strategy, target_tokens=target, overlap=overlap)
    chunks = Chunker(embedder, config).cut(document)
    covered, last = 0, -1
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.start > last
        assert chunk.end > covered
        assert overlap or chunk.start >= covered
        assert not document.text[covered : chunk.start].strip().strip("\ufeff").strip()
        assert chunk.tokens == embedder.count_tokens([embedded_text(chunk.prefix, chunk.text)])[0]
        assert chunk.tokens <= target or len(chunk.text) == 1
        covered, last = chunk.end, chunk.start
    assert not document.text[covered:].strip().strip("\ufeff").strip()


@settings(max_examples=100, deadline=None)
@given(text=_TEXTS, chosen=_CONFIGS)
def test_counting_by_words_changes_no_chunk(make_embedder, by_word, text, chosen):
    try:
        document = parse_document("a.md", text.encode("utf-8", "ignore"))
    except ProblemError:
        return
    config = ChunkConfig(strategy=chosen[0], target_tokens=24, overlap=chosen[1])
    assert Chunker(by_word, config).cut(document) == Chunker(make_embedder(), config).cut(document)


@pytest.mark.parametrize("strategy", ["structure", "fixed", "sentence", "recursive", "semantic"])
def test_tokenizer_that_looks_across_spaces_is_never_exceeded(make_embedder, strategy):
    class Joining(type(make_embedder())):
        """A whole text has more tokens than its words together."""

        def count_tokens(self, texts):
            return [
                n + len(t) // 10 for n, t in zip(super().count_tokens(texts), texts, strict=True)
            ]

    document = parse_document("a.txt", ("Some words of a text. " * 80).encode())
    config = ChunkConfig(strategy=strategy, target_tokens=40)
    chunks = Chunker(Joining(), config).cut(document)
    assert max(c.tokens for c in chunks) <= 40
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(document.text.split())


def _words(number):
    return parse_document("a.txt", " ".join(f"w{n}" for n in range(number)).encode())


def test_space_that_ends_a_prefix_is_no_token_before_a_word(make_embedder):
    """SentencePiece makes a piece of it where nothing follows, else it is part of the word: if each
    word were counted one short, chunks would be too long, and halved wherever half is."""

    class Prefixed(make_embedder):
        def count_tokens(self, texts):
            return [len(text.split()) + 4 + (not text.strip()) for text in texts]

    text = "One two three four five. " * 40
    document = parse_document("a.txt", text.encode())
    chunks = Chunker(Prefixed(), ChunkConfig(target_tokens=30)).cut(document)
    assert all(chunk.text.endswith(".") for chunk in chunks)
    assert {chunk.tokens for chunk in chunks} == {30}


def test_fixed_windows_repeat_the_overlap(by_word):
    config = ChunkConfig(strategy="fixed", target_tokens=23, overlap=5, context="none")
    chunks = Chunker(by_word, config).cut(_words(100))
    assert [c.tokens for c in chunks[:-1]] == [23] * (len(chunks) - 1)
    for before, after in pairwise(chunks):
        assert before.text.split()[-5:] == after.text.split()[:5]


def test_sentences_are_repeated_whole(by_word):
    text = " ".join(f"Sentence number {n} says it." for n in range(40))
    config = ChunkConfig(strategy="sentence", target_tokens=32, overlap=2, context="none")
    chunks = Chunker(by_word, config).cut(parse_document("a.txt", text.encode()))
    for before, after in pairwise(chunks):
        shared = before.text[after.start - before.start :]
        assert shared.count("Sentence") == 2
        assert shared.startswith("Sentence")


def test_recursive_cuts_at_the_coarsest_separator_that_helps(by_word):
    paragraphs = ["a b c. " * 3, "d e f. " * 20, "g h i. " * 3]
    text = "\n\n".join(p.strip() for p in paragraphs)
    config = ChunkConfig(strategy="recursive", target_tokens=30, context="none")
    found = [c.text for c in Chunker(by_word, config).cut(parse_document("a.txt", text.encode()))]
    assert found[0] == paragraphs[0].strip()
    assert found[-1] == paragraphs[2].strip()
    assert all(part.endswith("f.") and len(part.split()) % 3 == 0 for part in found[1:-1])


def test_separators_of_the_caller_are_used(by_word):
    config = ChunkConfig(strategy="recursive", target_tokens=16, separators=["@@"], context="none")
    text = "one two three four five@@" * 4
    chunks = Chunker(by_word, config).cut(parse_document("a.txt", text.encode()))
    assert {c.text for c in chunks} == {"one two three four five@@"}


def test_semantic_breaks_where_the_subject_changes(by_word):
    sea = "The whale swims in the deep sea. The sea is deep for the whale. "
    rail = "A train stops at every station. Each station has a train. "
    document = parse_document("a.txt", (sea * 2 + rail * 2).encode())
    config = ChunkConfig(strategy="semantic", break_percentile=15, target_tokens=100)
    chunks = Chunker(by_word, config).cut(document)
    assert [c.text for c in chunks] == [(sea * 2).strip(), (rail * 2).strip()]


def test_semantic_without_an_embedder_is_refused(embedder):
    with pytest.raises(InputError, match="needs an embedder"):
        chunk_document(_words(5), embedder.count_tokens, 64, ChunkConfig(strategy="semantic"))


TABLE = "# Ports\n\n| service | port |\n|---|---|\n" + "".join(
    f"| service{n} | {n} |\n" for n in range(60)
)


def test_further_parts_of_a_table_carry_its_header_in_the_prefix(by_word):
    config = ChunkConfig(target_tokens=64)
    chunks = Chunker(by_word, config).cut(parse_document("p.md", TABLE.encode()))
    assert len(chunks) > 3
    assert chunks[0].text.startswith("# Ports\n\n| service | port |")
    for chunk in chunks[1:]:
        assert chunk.prefix == "Ports\n| service | port |"
        assert chunk.text.startswith("| service")
        assert "| port |" not in chunk.text


def test_rows_whose_header_stands_elsewhere_carry_it(by_word):
    text = "name,age\n" + "".join(f"p{n},{n}\n" for n in range(40))
    rows = tuple(
        Block("table", start, text.index("\n", start) + 1, (0, 8))
        for start in [0, *(n + 1 for n, c in enumerate(text[:-1]) if c == "\n")]
    )
    document = Document("a.csv", text, "text", "a", (Section("", 0, 0, len(text)),), rows)
    chunks = Chunker(by_word, ChunkConfig(target_tokens=40)).cut(document)
    assert [c.prefix for c in chunks[1:]] == ["a\nname,age"] * (len(chunks) - 1)


def test_header_that_would_fill_the_chunk_is_left_out(by_word):
    head = "| " + " | ".join(f"column{n}" for n in range(30)) + " |\n"
    text = head + "|---" * 30 + "|\n" + "| 1 " * 30 + "|\n"
    document = parse_document("a.md", (text + "| 2 " * 30 + "|\n").encode())
    chunks = Chunker(by_word, ChunkConfig(target_tokens=32)).cut(document)
    assert {c.prefix for c in chunks} == {"a"}


def test_lone_heading_takes_the_beginning_of_what_it_heads(by_word):
    text = "# A heading of some words\n\n" + "One two three four five. " * 8
    config = ChunkConfig(target_tokens=56)
    chunks = Chunker(by_word, config).cut(parse_document("a.md", text.encode()))
    assert chunks[0].text.startswith("# A heading of some words\n\nOne two")
    assert chunks[0].text.endswith("five.")


def test_sections_of_headings_alone_make_no_passage_of_their_own(by_word):
    one = "# Report 7\n\n## Part 1\n\n### Findings\n\nAll was well."
    other = "## Part 2\n\n### Notes\n\nNone."
    text = f"{one}\n\n{other}\n"
    chunks = Chunker(by_word).cut(parse_document("a.md", text.encode()))
    assert [chunk.text for chunk in chunks] == [one, other]
    assert [chunk.prefix for chunk in chunks] == ["", "Report 7"]


def test_headings_take_the_beginning_of_what_follows_where_it_is_too_long(by_word):
    text = "# A heading of some words\n\n## Another\n\n" + "One two three four five. " * 8
    config = ChunkConfig(target_tokens=56)
    chunks = Chunker(by_word, config).cut(parse_document("a.md", text.encode()))
    assert chunks[0].text.startswith("# A heading of some words\n\n## Another\n\nOne two")
    assert len(chunks) > 1


def test_heading_at_the_end_goes_with_what_is_before(by_word):
    text = "# A\n\nSome words.\n\n## To be written\n"
    chunks = Chunker(by_word).cut(parse_document("a.md", text.encode()))
    assert [chunk.text for chunk in chunks] == [text.strip()]


def test_context_none_has_no_prefix(by_word):
    chunks = Chunker(by_word, ChunkConfig(context="none")).cut(
        parse_document("p.md", TABLE.encode())
    )
    assert chunks[0].prefix == ""


def test_model_writes_each_line_once_and_it_is_no_text(by_word):
    document = parse_document("g.md", b"# Guide\n\n" + b"Install it now. " * 40)
    model = ScriptedModel(["About installing.\nIt goes on."] * 100)
    lines: dict[str, str] = {}
    config = ChunkConfig(target_tokens=64, context="model")
    first = Chunker(by_word, config, writer=ContextWriter(model, lines)).cut(document)
    silent = ScriptedModel(["Something else."])
    again = Chunker(by_word, config, writer=ContextWriter(silent, lines)).cut(document)
    assert again == first
    assert not silent.requests
    assert all(c.prefix.endswith("About installing. It goes on.") for c in first)
    assert all(c.tokens <= 64 and "About" not in c.text for c in first)


def test_model_context_without_a_model_is_refused(embedder):
    with pytest.raises(InputError, match="no model to write it"):
        Chunker(embedder, ChunkConfig(context="model"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strategy": "fixd"}, "fixd"),
        ({"context": "all"}, "all"),
        ({"overlap": 5}, "overlap is 5"),
        ({"strategy": "fixed", "overlap": 100}, "overlap is 100"),
        ({"strategy": "sentence", "overlap": 21}, "overlap is 21"),
        ({"separators": "ab"}, "separators"),
        ({"separators": ["a", ""]}, "separators"),
        ({"window": 0}, "window"),
        ({"break_percentile": float("nan")}, "break_percentile"),
    ],
)
def test_wrong_config_is_refused_by_name(values, said):
    with pytest.raises(InputError, match=said):
        ChunkConfig.from_mapping(values)


@pytest.mark.weights
@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.lists(_PIECES, max_size=12).map("".join)))
def test_counts_by_word_is_true_of_minilm(minilm_embedder, text):
    words = [
        w for w in text.replace("\t", " ").replace("\n", " ").replace("\r", " ").split(" ") if w
    ]
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert minilm_embedder.counts_by_word
    counts = np.array(minilm_embedder.count_tokens([*words, text, ""]))
    assert counts[:-2].sum() - 2 * len(words) == counts[-2] - counts[-1]


@pytest.fixture(scope="session")
def minilm_embedder(minilm):
    from lmstack.serve.embedder import LocalEmbedder

    return LocalEmbedder.load(minilm)
