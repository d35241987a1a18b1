"""A folder of files that were made to harm, with a few honest ones among them.

`make_folder` writes both; `EXPECTED` says what the index must report of each bad one.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path

from tests.rag.formats.test_fuzz import CATALOG, HOSTILE_PDF, numbered, page, stream

__all__ = ["EXPECTED", "GOOD", "SECRET", "TURNED", "make_folder"]

# Stands in a file outside the folder that several documents try to pull in.
SECRET = "quokka4711"
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

# file -> a word that only it holds
GOOD = {
    "good.md": "aardvark",
    "good.txt": "bandicoot",
    "good.html": "capybara",
    "good.docx": "dormouse",
    "good.pdf": "echidna",
    "good.csv": "fossa",
    "good.jsonl": "gerbil",
    "deep/down/good.eml": "hedgehog",
    "pdf.txt": "ibex",
    "relations.docx": "jackal",
    "entries.docx": "kinkajou",
}
# file -> the kind of problem that is reported; all others are read.
EXPECTED = {
    "bomb.docx": "size",
    "lying.docx": "failed",
    "nested.docx": "format",
    "laughs.docx": "format",
    "outside.docx": "format",
    "html.docx": "format",
    "elf.pdf": "format",
    "png.md": "format",
    "loops.pdf": "failed",
    "unfolds.pdf": "empty",
    "pages.pdf": "size",
    "deep.eml": "format",
    "deep.html": "format",
    "deep.jsonl": "format",
    "deep.ipynb": "format",
    "sparse.txt": "size",
    "pipe.txt": "special",
    "itself.md": "symlink",
    "outside.txt": "symlink",
    "above": "symlink",
}
# A name that only file systems read as UTF-8 can have.
TURNED = ("bill\u202etxt.md",) if sys.getfilesystemencoding() == "utf-8" else ()
if TURNED:
    EXPECTED["bill\\u202etxt.md"] = "name"
if os.geteuid():  # root reads everything
    EXPECTED["closed.txt"] = "unreadable"


def _docx(body: str, head: str = "", more: dict[str, str] | None = None) -> bytes:
    parts = {"word/document.xml": _document(body, head), **(more or {})}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return packed.getvalue()


def _document(text: str, head: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{head}<w:document xmlns:w="{_W}"><w:body><w:p><w:r>'
        f"<w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    )


def _laughs() -> str:
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "lol">{lines}]>'


def _outside(secret: Path) -> str:
    return f'<!DOCTYPE x [<!ENTITY x SYSTEM "file://{secret}">]>'


def _nested() -> bytes:
    data = b"0" * 1_000_000
    for _ in range(5):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("a.zip", "b.zip"):
                archive.writestr(name, data)
        data = packed.getvalue()
    return data


def _lying() -> bytes:
    """Declares a hundred bytes where ten million come out."""
    data = bytearray(_docx("x" * 10_000_000))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + place
        data[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(data)


def _mail_in_mail(depth: int) -> bytes:
    head = b"Content-Type: message/rfc822\n\n"
    return head * depth + b"Subject: in the middle\n\nThe last mail.\n"


def make_folder(root: Path, secret: Path) -> Path:
    """``root`` filled; ``secret`` is a file outside that holds `SECRET`."""
    secret.write_text(f"{SECRET}\n")
    (root / "deep" / "down").mkdir(parents=True)
    files: dict[str, bytes | str] = {**_good(), **_documents(secret), **_texts(secret)}
    for name, content in files.items():
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with (root / "sparse.txt").open("wb") as file:
        file.truncate(200_000_000)
    (root / "closed.txt").write_text("Closed.")
    (root / "closed.txt").chmod(0)
    os.mkfifo(root / "pipe.txt")
    (root / "itself.md").symlink_to("itself.md")
    (root / "outside.txt").symlink_to(secret)
    (root / "above").symlink_to("..", target_is_directory=True)
    return root


def _good() -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for name, word in GOOD.items():
        line = f"The {word} is an honest animal."
        found[name] = {
            "csv": f"animal,virtue\n{word},honest\n",
            "jsonl": json.dumps({"text": line}) + "\n",
            "eml": f"From: a@b.example\nSubject: Animals\n\n{line}\n",
            "html": f"<title>Animals</title><p>{line}</p>",
        }.get(name.rpartition(".")[2], line + "\n")
        if name.endswith("pdf") or name == "pdf.txt":
            found[name] = numbered(page(stream(f"BT /F 9 Tf 50 700 Td ({line}) Tj ET".encode())))
    found["good.docx"] = _docx("The dormouse is an honest animal.")
    climbing = "".join(
        f'<Relationship Id="r{n}" Type="x/officeDocument" Target="{target}"/>'
        for n, target in enumerate(("../../../../etc/passwd", "file:///etc/passwd", "//x/share"))
    )
    found["relations.docx"] = _docx(
        "The jackal is an honest animal.",
        more={"_rels/.rels": f"<Relationships>{climbing}</Relationships>"},
    )
    found["entries.docx"] = _docx(
        "The kinkajou is an honest animal.",
        more={"../../escaped.txt": "x", "/tmp/escaped.txt": "x", "..\\escaped.txt": "x"},
    )
    return found


def _documents(secret: Path) -> dict[str, bytes | str]:
    kids = b"3 0 R " * 100_000
    return {
        "bomb.docx": _docx(" " * 60_000_000),
        "lying.docx": _lying(),
        "nested.docx": _nested(),
        "laughs.docx": _docx("&l9;", _laughs()),
        "outside.docx": _docx("&x;", _outside(secret)),
        "html.docx": "<!doctype html><html><body><p>Not from Word.</p></body></html>",
        "elf.pdf": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40,
        "png.md": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200),
        "loops.pdf": HOSTILE_PDF["pages that hold themselves"],
        "form.pdf": HOSTILE_PDF["a form that draws itself"],
        "unfolds.pdf": HOSTILE_PDF["a stream that unfolds"],
        "pages.pdf": numbered(
            [
                CATALOG,
                b"<< /Type /Pages /Count 100000 /Kids [" + kids + b"] >>",
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
            ]
        ),
    }


def _texts(secret: Path) -> dict[str, bytes | str]:
    line = "x" * 3_000_000
    turned = "Send the money to \u202eecila\u202c, not to \u2066bob\u2069."
    return {
        "laughs.xhtml": f"<?xml version='1.0'?>{_laughs()}<html><body>&l9; lol</body></html>",
        "outside.xhtml": f"<?xml version='1.0'?>{_outside(secret)}<html><p>&x; none</p></html>",
        "line.txt": line,
        "line.md": f"# A line\n\n{line}",
        "line.csv": f"a,b\n1,{line}\n",
        "line.jsonl": json.dumps({"text": line}),
        "deep.html": "<div>" * 50_000 + "deep" + "</div>" * 50_000,
        "deep.jsonl": "[" * 100_000 + "]" * 100_000,
        "deep.ipynb": '{"cells": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "deep.eml": _mail_in_mail(300),
        **dict.fromkeys(TURNED, "# A bill\n\nIts name is read from right to left.\n"),
        "turned.md": f"# Turned\n\n{turned}\n",
        "tags.md": "Plain\U000e0068\U000e0069 to see, \u200bnot all of it.\n",
    }
