"""HotpotQA's hard questions, each of which needs facts from two paragraphs of Wikipedia.

What cognee's source distribution carries of the set (Yang et al. 2018; CC BY-SA 4.0): 74
questions with ten paragraphs each, two of which hold the facts; the others were retrieved to
distract. All are searched. The files do not say which two they are, so the gold are those of a
question's ten that hold the answer word for word; a paragraph with the other fact alone is not
right. Yes-no questions are left out, for their answer stands nowhere. Of a quarter of the
questions, by a hash, all ten paragraphs are left out: without one fact of two a question would be
neither answerable nor not.
"""

from __future__ import annotations

import json

from answers_data import Collection, Gold, Item, is_fourth, merged, numbered
from answers_judge import contains
from pinned import COGNEE, source_files

__all__ = ["HOTPOT", "PARAGRAPHS"]

# Of a question; the files hold them one after another, in the order of the questions.
PARAGRAPHS = 10
_SAMPLES = (
    ("evals/src/hotpot_qa_24_qa_pairs.json", "evals/src/hotpot_qa_24_corpus.json"),
    ("evals/old/hotpot_50_qa_pairs.json", "evals/old/hotpot_50_corpus.json"),
)


def hotpotqa() -> Collection:
    asked, paragraphs = list[dict[str, str]](), list[str]()
    for pair in _SAMPLES:
        questions, corpus = source_files(COGNEE, pair)
        asked += json.loads(questions.read_text("utf-8"))
        paragraphs += json.loads(corpus.read_text("utf-8"))
    names = numbered(paragraphs)
    kept, items = set[str](), list[Item]()
    for place, row in enumerate(asked):
        own = paragraphs[PARAGRAPHS * place : PARAGRAPHS * (place + 1)]
        out = is_fourth(f"hotpotqa/{row['question']}")
        if not out:
            kept.update(own)
        golds = [names[each] for each in own if contains(each, row["answer"])]
        if golds and row["answer"] not in ("yes", "no"):
            items.append(
                Item(
                    row["question"].strip(),
                    ("two_facts",),
                    tuple(Gold(name, left_out=out) for name in golds),
                    (row["answer"],),
                )
            )
    documents = {name: text for text, name in names.items() if text in kept}
    return Collection("hotpotqa", "en", documents, merged(items))


HOTPOT = {"hotpotqa": hotpotqa}
