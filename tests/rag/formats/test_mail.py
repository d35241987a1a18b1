"""A mail is who, when and what; what is quoted, attached or broken is told apart."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from lmstack.rag import LoadConfig
from lmstack.rag.formats.load import ProblemError, parse_document


def mail(body="Words.", **headers):
    message = EmailMessage()
    message["From"] = headers.pop("sender", "Ada <ada@example.org>")
    message["To"] = "Bob <BOB@example.org>, c@example.org"
    message["Date"] = "Tue, 02 Jan 2024 23:30:00 -0500"
    message["Subject"] = headers.pop("subject", "The tower")
    message.set_content(body)
    return message


def read(message, **limits):
    data = message if isinstance(message, bytes) else message.as_bytes()
    return parse_document("a.eml", data, LoadConfig(**limits))


def test_headers_are_title_fields_and_the_first_block():
    document = read(mail(subject="Größe des Turms"))
    assert document.title == "Größe des Turms"
    assert document.fields["author"] == "Ada <ada@example.org>"
    assert document.fields["to"] == ("bob@example.org", "c@example.org")
    assert document.fields["date"] == "2024-01-03"
    matter = document.blocks[0]
    assert matter.kind == "matter"
    assert "Subject: Größe des Turms" in document.text[matter.start : matter.end]


def test_quoted_lines_are_a_quote(make):
    document = read(mail("Yes.\n\nOn Monday Bob wrote:\n> Is it tall?\n> Very?\nIt is.\n"))
    assert make.texts(document, "quote") == ["> Is it tall?\n> Very?"]
    assert make.texts(document, "paragraph") == ["Yes.", "On Monday Bob wrote:", "It is."]


def test_plain_text_is_preferred_to_its_html():
    message = mail("Plain words.")
    message.add_alternative("<p>Marked words.</p>", subtype="html")
    text = read(message).text
    assert "Plain" in text
    assert "Marked" not in text


def test_html_alone_is_read_as_a_page():
    message = mail("")
    message.set_content("<h1>Lights</h1><p>Marked <b>words</b>.</p>", subtype="html")
    document = read(message)
    assert "Marked words." in document.text
    assert document.sections[-1].title == "Lights"


def test_attachment_is_a_section_with_its_text():
    message = mail()
    table = b"name,metres\nSkerryvore,48\n"
    message.add_attachment(table, maintype="text", subtype="csv", filename="../towers.csv")
    document = read(message)
    section = document.sections[-1]
    assert section.title == "Attachment: towers.csv"
    assert "Skerryvore,48" in document.text[section.start :]
    row = next(b for b in document.blocks if document.text[b.start : b.end] == "Skerryvore,48")
    assert document.text[slice(*row.header)] == "name,metres"
    assert document.fields["attachments"] == ("towers.csv",)


def test_attachment_that_cannot_be_read_costs_only_itself(make):
    message = mail()
    for name, data in (("a.png", b"\x89PNG"), ("b.md", b"\xff\xff"), ("c.docx", b"PK\x03\x04")):
        message.add_attachment(data, maintype="application", subtype="x", filename=name)
    document = read(message)
    assert document.fields["attachments"] == ("a.png", "b.md", "c.docx")
    assert len(document.fields["warnings"]) == 2
    assert "Words." in document.text


def test_forwarded_mail_is_read():
    message = mail()
    message.add_attachment(mail("Inner words.", subject="Inner"))
    text = read(message).text
    assert text.index("Words.") < text.index("Subject: Inner") < text.index("Inner words.")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: text/plain; charset=no-such\n",
        b"Content-Type: text/plain; charset=hex\n",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n",
        b"Content-Type: text/plain; charset=a\0b\n",
        b"Content-Type: text/plain; charset*=a\0b''x\n",
        b"Content-Disposition: inline; filename*=a\0b''x\n",
        b"Subject: =?nonsense?q?=ff?=\n",
        b"Subject: caf\xe9\n",
        b"Date: yesterday\n",
        b"To: <<<>,,;\n",
    ],
)
def test_broken_headers_and_charsets_survive(head):
    assert read(b"From: a@example.org\n" + head + b"\ncaf\xe9 words\n").text


def test_charset_of_the_part_is_used():
    data = b"From: a\nContent-Type: text/plain; charset=iso-8859-1\n\ncaf\xe9\n"
    assert read(data).text.endswith("caf\u00e9")


def test_mails_in_mails_have_an_end():
    message = mail("Innermost.")
    for _ in range(40):
        outer = mail("Around.")
        outer.add_attachment(message)
        message = outer
    document = read(message)
    assert document.text.count("Around.") <= 20


def multipart(depth):
    data = b"From: a\n"
    for n in range(depth):
        data += b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n)
    return data + b"\nx\n"


@pytest.mark.parametrize("depth", [30, 10_000])
def test_parts_in_parts_have_an_end(depth):
    with pytest.raises(ProblemError, match="deep"):
        read(multipart(depth))


def test_very_many_parts_are_refused():
    data = b'From: a\nContent-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 10_000
    with pytest.raises(ProblemError, match="more than 1,000 parts"):
        read(data)


def test_attachments_together_are_limited():
    message = mail()
    for n in range(4):
        message.add_attachment(b"x" * 4_000, maintype="text", subtype="x", filename=f"{n}.txt")
    with pytest.raises(ProblemError, match="unfolds") as caught:
        read(message, max_unpacked_bytes=10_000)
    assert caught.value.kind == "size"


def test_text_without_headers_is_no_mail():
    with pytest.raises(ProblemError, match="no headers"):
        read(b"Just words.\n\nMore.\n")
