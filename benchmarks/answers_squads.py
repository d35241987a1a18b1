"""Sets in the form of SQuAD in other languages than English, each fetched from its repository.

XQuAD: what SQuAD's authors asked about 240 paragraphs of Wikipedia, translated into German and
    Spanish with the paragraphs (Artetxe, Ruder and Yogatama 2020; CC BY-SA 4.0). `xquad-de-en` asks
    the English questions of the German paragraphs; the answer is that of the German item.
JSQuAD: questions about every fourth paragraph of the Japanese Wikipedia in its validation set
    (Kurihara, Kawahara and Shibata 2022; CC BY-SA 4.0). Words of Japanese have no spaces between
    them, so the gold is where the answer stands in the paragraph.
CNIL: the questions that the French data protection authority answers on its site, as Etalab's
    piaf-ml holds them (MIT). The gold is the answer as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from answers_data import Collection, Gold, Item, is_fourth, merged, numbered, without_a_quarter
from pinned import Repository, repository_folder

__all__ = ["SQUADS"]

_XQUAD = Repository(
    "https://github.com/google-deepmind/xquad",
    "7d30520c717524000f0d9d2f9c10a069acd9d285",
    ("xquad.de.json", "xquad.en.json", "xquad.es.json"),
)
_JSQUAD = Repository(
    "https://github.com/yahoojapan/JGLUE",
    "6f071c09316baae89c3d083a90985b4b1cb9968c",
    ("datasets/jsquad-v1.3/valid-v1.3.json",),
)
_CNIL = Repository(
    "https://github.com/etalab-ia/piaf-ml",
    "9c9abca01daf515714859330590dbb1c8121de6f",
    ("clients/cnil/knowledge_base/squad.json",),
)
# Id, question, paragraph and answer of an item.
Row = tuple[str, str, str, str]


def _rows(repository: Repository, member: str) -> Iterator[Row]:
    path = repository_folder(repository) / member
    for article in json.loads(path.read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                answer = row["answers"][0]["text"]
                yield str(row.get("id", "")), row["question"], paragraph["context"], answer


def xquad(language: str, asked_in: str = "") -> Collection:
    name = "-".join(filter(None, ("xquad", language, asked_in)))
    asking = _rows(_XQUAD, f"xquad.{asked_in or language}.json")
    asked = {row: question for row, question, _, _ in asking}
    rows = list(_rows(_XQUAD, f"xquad.{language}.json"))
    names = numbered(paragraph for _, _, paragraph, _ in rows)
    items = [
        Item(asked[row], ("fact",), (Gold(names[paragraph]),), (answer,))
        for row, _, paragraph, answer in rows
    ]
    documents = {path: text for text, path in names.items()}
    return without_a_quarter(Collection(name, language, documents, merged(items), asked_in))


def jsquad() -> Collection:
    found = (
        (question, paragraph.replace(" [SEP] ", "\n\n", 1), answer)
        for _, question, paragraph, answer in _rows(_JSQUAD, *_JSQUAD.members)
    )
    rows = [row for row in found if is_fourth(row[1])]
    names = numbered(paragraph for _, paragraph, _ in rows)
    items = [
        Item(question, ("fact",), (Gold(names[paragraph], quotes=(answer,)),))
        for question, paragraph, answer in rows
    ]
    documents = {path: text for text, path in names.items()}
    return without_a_quarter(Collection("jsquad", "ja", documents, merged(items)))


def cnil() -> Collection:
    rows = list(_rows(_CNIL, *_CNIL.members))
    names = numbered(answer for _, _, answer, _ in rows)
    items = [Item(asked, ("other",), (Gold(names[answer]),)) for _, asked, answer, _ in rows]
    documents = {path: text for text, path in names.items()}
    return without_a_quarter(Collection("cnil", "fr", documents, merged(items)))


SQUADS = {
    "xquad-de": partial(xquad, "de"),
    "xquad-es": partial(xquad, "es"),
    "xquad-de-en": partial(xquad, "de", "en"),
    "jsquad": jsquad,
    "cnil": cnil,
}
