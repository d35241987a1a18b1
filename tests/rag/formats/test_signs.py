"""Signs that deceive the reader stay in the text, and the document says that they are there."""

from __future__ import annotations

import pytest

from lmstack.rag.formats.load import parse_document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pay \u202eecilA\u202c now", ("bidi",)),
        ("ad\u200bmin", ("zero-width",)),
        ("tag\U000e0041\U000e0042", ("zero-width",)),
        ("\u2066x\u2069\u200b", ("bidi", "zero-width")),
        ("\ufeffBegins with a mark", None),
        ("می\u200cخواهم", None),
        ("👩\u200d🚒 plain שלום", None),
    ],
)
def test_odd_signs_are_named_and_kept(text, expected):
    document = parse_document("a.txt", text.encode())
    assert document.text == text
    assert document.fields.get("warnings") == expected
