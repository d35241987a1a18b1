"""A worker, which may read and write next to nothing, gives what the parser gives here."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from lmstack.rag.formats.load import parse_document
from lmstack.rag.ingest.workers import WorkerConfig, Workers


@pytest.fixture(scope="module")
def workers():
    with Workers(WorkerConfig(count=1, inline_bytes=0)) as pool:
        yield pool


def test_every_format_comes_back_from_a_worker_as_it_is(workers, make):
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "Ada <a@example.org>", "Größe"
    mail.set_content("Words.\n\n> quoted\n")
    table = [["Code", "Meaning"], ["E3", "Fault"]]
    files = {
        "a.pdf": make.typeset(("Heading1", "Lights"), "Some words.", table, None, "More."),
        "a.docx": make.word("<w:p><w:r><w:t>Words</w:t></w:r></w:p>"),
        "a.eml": mail.as_bytes(),
        "a.csv": b"name,metres\nSkerryvore,48\n",
        "a.md": b"---\ntags: [a]\naccess: [hr]\nversion: 2\n---\n# A\n\nWords.\n",
        # The language model is loaded in the worker.
        "a.txt": b"Der Leuchtturm wurde im Jahr 1844 in Betrieb genommen.",
    }
    for name, data in files.items():
        assert workers.parse(name, data) == parse_document(name, data)
