"""Sets in the form of SQuAD, most of them not in English, each fetched from its repository.

XQuAD: what SQuAD's authors asked about 240 paragraphs of Wikipedia, translated into German and
    Spanish with the paragraphs (Artetxe, Ruder and Yogatama 2020; CC BY-SA 4.0). `xquad-de-en` asks
    the English questions of the German paragraphs; the answer is that of the German item.
JSQuAD: questions about every fourth paragraph of the Japanese Wikipedia in its validation set
    (Kurihara, Kawahara and Shibata 2022; CC BY-SA 4.0). Words of Japanese have no spaces between
    them, so the gold is where the answer stands in the paragraph.
SQuAD 2.0: what people asked about paragraphs of Wikipedia, its development set; half of the
    questions were made to look answerable and are not (Rajpurkar, Jia and Liang 2018; CC BY-SA
    4.0), which are near misses. From a course's repository, which splits that set in two; the
    other part of its files is not read.
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
_SQUAD2 = Repository(
    "https://github.com/chrischute/squad",
    "85623adeb9e6639f145081fea9cae2d8f3a26379",
    ("data/dev-v2.0.json",),
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


def squad2() -> Collection:
    path = repository_folder(_SQUAD2) / _SQUAD2.members[0]
    articles = json.loads(path.read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    names = numbered(paragraph["context"] for paragraph in paragraphs)
    items = [
        Item(
            row["question"].strip(),
            ("fact",),
            (Gold(names[paragraph["context"]]),),
            tuple(dict.fromkeys(answer["text"] for answer in row["answers"])),
            near_miss=not row["answers"],
        )
        for paragraph in paragraphs
        for row in paragraph["qas"]
    ]
    documents = {path: text for text, path in names.items()}
    return without_a_quarter(Collection("squad-2", "en", documents, merged(items)))


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
    "squad-2": squad2,
    "cnil": cnil,
}
