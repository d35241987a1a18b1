"""A file is read exactly, or said to be broken; HTML is what a reader sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError
from lmstack.rag import LoadConfig, load_document
from lmstack.rag.formats.load import ProblemError, parse_document


@pytest.mark.parametrize("suffix", [".txt", ".md"])
@given(text=st.text(max_size=300))
@settings(deadline=None)
def test_text_is_exactly_the_decoded_file(suffix, text):
    data = text.encode("utf-8", "ignore")
    if b"\0" in data or not data.decode().strip("\ufeff").strip():
        return
    assert parse_document(f"a{suffix}", data).text == data.decode("utf-8")


def test_byte_order_mark_keeps_offsets_of_the_file(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"\xef\xbb\xbf# Title\r\n\r\nBody.\r\n")
    document = load_document(path)
    assert document.text == path.read_bytes().decode("utf-8")
    assert (document.title, document.sections[-1].title) == ("Title", "Title")


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", "empty", "0 bytes"),
        (b" \n\t ", "empty", "no text"),
        (b"\xef\xbb\xbf", "empty", "no text"),
        (b"ab\0c", "binary", "byte 2"),
        (b"caf\xe9", "encoding", "0xe9 at byte 3"),
        ("word".encode("utf-16"), "encoding", "UTF-16"),
    ],
)
def test_broken_content_is_named(data, kind, says):
    with pytest.raises(ProblemError, match=says) as caught:
        parse_document("a.txt", data)
    assert caught.value.kind == kind
    assert caught.value.hint


def test_too_large_file_says_size_and_limit_without_reading_it(tmp_path):
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(FormatError, match=r"50\.0 MB, more than the limit of 20\.0 MB"):
        load_document(path)


def test_limit_on_size_can_be_set(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("12345")
    assert load_document(path, LoadConfig(max_file_bytes=5)).text == "12345"
    with pytest.raises(FormatError, match="limit"):
        load_document(path, LoadConfig(max_file_bytes=4))


def test_pipe_is_refused_and_does_not_block(tmp_path):
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    with pytest.raises(FormatError, match="not a regular file"):
        load_document(path)


def test_unknown_ending_names_the_known_ones(tmp_path):
    path = tmp_path / "a.exe"
    path.write_text("x")
    with pytest.raises(FormatError, match=r"\.md"):
        load_document(path)


def test_parser_failure_costs_its_file_only(monkeypatch):
    def broken(_: str) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr("lmstack.rag.formats.load.markdown_structure", broken)
    with pytest.raises(ProblemError, match="RecursionError"):
        parse_document("a.md", b"text")


def test_sections_know_the_headings_above_them():
    document = parse_document("a.md", b"intro\n\n# A\n\n## B `x`\n\n### C\n\n## [D](u)\n\nend\n")
    assert [(s.level, s.path) for s in document.sections] == [
        (0, ()),
        (1, ("A",)),
        (2, ("A", "B x")),
        (3, ("A", "B x", "C")),
        (2, ("A", "D")),
    ]
    assert document.sections[-1].end == len(document.text)


def test_front_matter_gives_the_title_and_is_no_heading():
    document = parse_document("a.md", b'---\ntitle: "My page"\nx: 1\n---\n\n# Other\n')
    assert document.title == "My page"
    assert [s.title for s in document.sections] == ["", "Other"]
    assert document.blocks[0].kind == "matter"


def test_html_drops_what_a_reader_does_not_see():
    document = parse_document(
        "a.html",
        b"<title>T &amp; U</title><script>alert(1)</script><style>p{}</style><nav>Menu</nav>"
        b"<h1>Big <i>one</i></h1><p>a &lt; b&nbsp;c<br>d</p><!-- no --><template>t</template>",
    )
    assert document.text == "Big one\n\na < b\xa0c\nd"
    assert (document.title, document.sections[0].title) == ("T & U", "Big one")


def test_html_blocks_stay_apart_and_pre_stays_as_it_is():
    document = parse_document(
        "a.html",
        b"<p>one\n two</p><ul><li>x<li>y</ul><pre>a\n  b</pre>"
        b"<table><tr><td>1<td>2<tr><td>3</table>",
    )
    assert "one two\n\n- x\n- y\n\na\n  b\n\n| 1 | 2 |\n| 3 |" in document.text
    assert [b.kind for b in document.blocks] == ["paragraph", "list", "code", "table"]


def test_html_block_texts_are_spans_of_the_text():
    document = parse_document(
        "a.html", b"<div>a<div>b<h2>h</h2>c</div><blockquote><p>q</p></blockquote>"
    )
    assert [document.text[b.start : b.end] for b in document.blocks] == ["a", "b", "h", "c", "q"]


def test_deeply_nested_html_is_refused_at_once():
    with pytest.raises(ProblemError, match="nested more than"):
        parse_document("a.html", b"<div>" * 200_000 + b"x")


def test_flat_html_with_unclosed_tags_is_not_taken_for_nested():
    document = parse_document("a.html", b"<ul>" + b"<li>x<p>y<br>" * 5000 + b"</ul>")
    assert document.text.count("x") == 5000


def test_html_may_declare_another_encoding():
    document = parse_document("a.html", b"<meta charset='iso-8859-1'><p>caf\xe9</p>")
    assert document.text == "caf\u00e9"


def test_html_charset_of_bytes_codec_is_not_used():
    with pytest.raises(ProblemError, match="not valid UTF-8"):
        parse_document("a.html", b"<meta charset='hex'><p>caf\xe9</p>")


@given(st.text(alphabet="<>/abdivpul \n&;'\"=!-", max_size=200))
@settings(deadline=None)
def test_html_blocks_never_leave_the_text_or_overlap(source):
    try:
        document = parse_document("a.html", source.encode())
    except ProblemError:
        return
    position = 0
    for block in document.blocks:
        assert position <= block.start < block.end <= len(document.text)
        position = block.end


def test_missing_file_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(FormatError, match="removed"):
        load_document(tmp_path / "none.txt")
