"""A Word document's text is what Word shows, with its structure; a hostile one is refused."""

from __future__ import annotations

import io
import time

import docx
import pytest

from lmstack.rag import LoadConfig
from lmstack.rag.formats.load import ProblemError, parse_document


def saved(document):
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def read(data, **limits):
    return parse_document("a.docx", data, LoadConfig(**limits))


def p(text, properties=""):
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_headings_lists_and_paragraphs_of_a_real_document(make):
    document = docx.Document()
    document.add_heading("Plan of works", 0)
    document.add_heading("Scope", 1)
    document.add_paragraph("The tower is 48 m tall.")
    for text in ("granite", "brass"):
        document.add_paragraph(text, style="List Bullet")
    document.add_heading("Costs", 2)
    for text in ("First", "Second"):
        document.add_paragraph(text, style="List Number")
    read_back = read(saved(document))
    assert read_back.text == (
        "Plan of works\n\nScope\n\nThe tower is 48 m tall.\n\n- granite\n- brass\n\nCosts\n\n"
        "1. First\n2. Second"
    )
    assert [s.path for s in read_back.sections][1:] == [("Scope",), ("Scope", "Costs")]
    assert make.texts(read_back, "list") == ["- granite\n- brass", "1. First\n2. Second"]


def test_properties_are_title_and_fields():
    document = docx.Document()
    document.add_paragraph("Words.")
    document.core_properties.title = "A plan"
    document.core_properties.author = "Ada"
    document.core_properties.keywords = "a, b"
    read_back = read(saved(document))
    assert read_back.title == "A plan"
    assert (read_back.fields["author"], read_back.fields["tags"]) == ("Ada", ("a", "b"))
    assert read_back.fields["date"] == "2013-12-23"


def test_table_rows_are_whole_and_merged_cells_keep_the_columns(make):
    document = docx.Document()
    table = document.add_table(3, 3)
    for number, text in enumerate(["Code", "Cause", "Cure", "E3", "a|b", "Hold", "E4", "x", "y"]):
        table.cell(number // 3, number % 3).text = text
    table.cell(2, 1).merge(table.cell(2, 2))
    read_back = read(saved(document))
    assert make.texts(read_back, "table") == [
        "| Code | Cause | Cure |\n| E3 | a\\|b | Hold |\n| E4 | x y | |"
    ]
    assert read_back.blocks[0].header == (0, len("| Code | Cause | Cure |"))


def test_outline_level_of_a_style_or_a_paragraph_makes_a_heading(make):
    styles = (
        '<w:style w:styleId="Base"><w:name w:val="Part"/><w:outlineLvl w:val="1"/></w:style>'
        '<w:style w:styleId="Own"><w:name w:val="Own"/><w:basedOn w:val="Base"/></w:style>'
    )
    body = p("One", '<w:pStyle w:val="Own"/>') + p("Two", '<w:outlineLvl w:val="0"/>') + p("x")
    sections = read(make.word(body, styles=styles)).sections
    assert [(s.level, s.title) for s in sections] == [(2, "One"), (1, "Two")]


def test_styles_that_are_based_on_each_other_end(make):
    styles = (
        '<w:style w:styleId="A"><w:basedOn w:val="B"/></w:style>'
        '<w:style w:styleId="B"><w:basedOn w:val="A"/></w:style>'
    )
    assert read(make.word(p("x", '<w:pStyle w:val="A"/>'), styles=styles)).text == "x"


def test_insertions_are_text_and_deletions_are_not(make):
    body = (
        "<w:p><w:r><w:t>Keep </w:t></w:r><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom></w:p>"
    )
    assert read(make.word(body)).text == "Keep added"


def test_hidden_text_and_field_codes_are_not_shown(make):
    body = (
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
        "<w:r><w:instrText>HYPERLINK x</w:instrText></w:r>"
        "<w:hyperlink><w:r><w:t>the link</w:t></w:r></w:hyperlink></w:p>"
    )
    assert read(make.word(body)).text == "the link"


def test_footnote_follows_its_paragraph(make):
    notes = '<w:footnote w:id="7"><w:p><w:r><w:t>Says Stevenson.</w:t></w:r></w:p></w:footnote>'
    body = (
        '<w:p><w:r><w:t>Lit in 1844.</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r></w:p>'
        + p("Next.")
    )
    text = read(make.word(body, footnotes=notes)).text
    assert text == "Lit in 1844.[^1]\n\n[^1]: Says Stevenson.\n\nNext."


def test_labels_count_as_word_counts(make):
    numbering = (
        '<w:abstractNum w:abstractNumId="0">'
        '<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="upperRoman"/>'
        '<w:lvlText w:val="%1."/></w:lvl>'
        '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/>'
        '<w:lvlText w:val="%1.%2)"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="5"><w:abstractNumId w:val="0"/></w:num>'
    )
    item = '<w:numPr><w:ilvl w:val="{}"/><w:numId w:val="5"/></w:numPr>'
    body = "".join(p("x", item.format(depth)) for depth in (0, 1, 1, 0, 1))
    text = read(make.word(body, numbering=numbering)).text
    assert text.split("\n") == ["III. x", "  III.a) x", "  III.b) x", "IV. x", "  IV.a) x"]


def test_table_in_a_table_is_part_of_its_cell(make):
    inner = f"<w:tbl><w:tr><w:tc>{p('a')}</w:tc><w:tc>{p('b')}</w:tc></w:tr></w:tbl>"
    outer = f"<w:tbl><w:tr><w:tc>{p('x')}{inner}</w:tc><w:tc>{p('y')}</w:tc></w:tr></w:tbl>"
    assert read(make.word(outer)).text == "| x a, b | y |"


def test_cell_of_very_many_paragraphs_is_read_in_proportion(make):
    data = make.word(f"<w:tbl><w:tr><w:tc>{p('abcdefghij') * 100_000}</w:tc></w:tr></w:tbl>")
    started = time.process_time()
    assert len(read(data).text) == 1_100_003
    assert time.process_time() - started < 4


def test_tables_nested_without_end_are_refused(make):
    with pytest.raises(ProblemError, match="nests tables"):
        read(make.word("<w:tbl><w:tr><w:tc>" * 30 + "</w:tc></w:tr></w:tbl>" * 30))


def test_elements_nested_without_end_are_refused(make):
    with pytest.raises(ProblemError, match="deep"):
        read(make.word("<w:sdt>" * 5000 + "</w:sdt>" * 5000))


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">',
    ],
)
def test_document_types_are_refused(make, declaration):
    xml = f'<?xml version="1.0"?>{declaration}<w:document xmlns:w="w">&a;</w:document>'
    with pytest.raises(ProblemError, match="document type") as caught:
        read(make.archive({"word/document.xml": xml}))
    assert caught.value.kind == "format"


def test_bomb_is_refused_before_it_unfolds(make):
    data = make.archive({"word/document.xml": b" " * 30_000_000})
    assert len(data) < 100_000
    with pytest.raises(ProblemError, match="30 MB") as caught:
        read(data)
    assert caught.value.kind == "size"


def test_parts_together_are_limited(make):
    data = make.word(p("x" * 2000), styles="<w:x/>" * 500)
    with pytest.raises(ProblemError, match="unfold"):
        read(data, max_unpacked_bytes=4000)


def test_very_many_parts_are_refused(make):
    with pytest.raises(ProblemError, match="10,001 parts"):
        read(make.archive({f"{n}": b"" for n in range(10_001)}))


def test_archive_of_something_else_is_named(make):
    with pytest.raises(ProblemError, match="no Word document"):
        read(make.archive({"mimetype": b"application/epub+zip"}))


def test_old_and_encrypted_documents_are_told_apart():
    magic = bytes.fromhex("d0cf11e0a1b11ae1")
    with pytest.raises(ProblemError, match="97 to 2003"):
        read(magic + b"\0" * 600)
    with pytest.raises(ProblemError, match="password") as caught:
        read(magic + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"))
    assert caught.value.kind == "encrypted"


def test_text_beyond_the_limit_is_refused(make):
    with pytest.raises(ProblemError, match="more than 100 characters"):
        read(make.word(p("x" * 60) * 2), max_text_chars=100)
