"""What a newcomer asks first, of these pages and of a folder of their own, as it is answered.

    python benchmarks/first_questions.py            ask, record, and write docs/first_questions.md
    python benchmarks/first_questions.py --page     write the page from what was recorded

Asks the questions of `questions/first.jsonl` as `lmstack ask` does, with the default models: eleven
of docs/, twenty of each of three folders (`first_folders.py`). Files and questions were written
before any of them was asked. A follow-up is asked as the page asks it, after the answer before it.
The verdicts are given by hand, in `questions/first_verdicts.jsonl`; one holds for the very text
that was printed, so an answer that changed has none, and its line is printed to be filled in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from first_folders import write_folders

from lmstack.app.cli.output import Output
from lmstack.app.cli.printed_answer import PrintedAnswer
from lmstack.app.server.told_answer import told
from lmstack.app.wiring import documents, retrieval
from lmstack.rag import AnswerDone, Answerer, AnswerEvent

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "first_questions.md"
QUESTIONS = HERE / "questions" / "first.jsonl"
VERDICTS = HERE / "questions" / "first_verdicts.jsonl"
RESULT = HERE / "results" / "first_questions.json"
KINDS = ("right", "partly", "wrong", "rightly refused", "wrongly refused")
WEAK = """## What is weak

- What is written may say the contrary of its source: a small model begins with "Yes" before it \
has read a "no", and the check lets it pass.
- Of two editions the one that holds no longer is taken as readily, and what was proposed as \
readily as what was decided.
- A row of a price list, a rota or a stock list is found only by words that it holds; a question \
about it in words of one's own finds prose instead.
- An English question finds no passage in another language in a folder that is mostly English.
- A follow-up is written in full by the model, and half of a question may get lost in that.
- What is written in German from an English passage may be mistranslated, and the check does not \
see it.
- A list, a table or a block of code is quoted whole where there is room, so six rows come for \
one weight.
- The line that is named as the source is not always the one that answers.
"""
TITLES = {
    "docs": "Of these pages",
    "practice": "Of a veterinary practice",
    "trade": "Of a firm that sells rope, with its tables and mail",
    "club": "Of a club of astronomers",
}
PREFACE = """---
search:
  exclude: true
---

# The first questions

What a newcomer asks first, and what `lmstack ask` prints, with the default models and no options. \
Eleven questions are about these pages, the one of `make demo` first; sixty are about three \
made-up folders of 23 to 25 files each, `benchmarks/questions/folders` with a Word document and a \
PDF besides.

The folders and their questions were written by somebody who knew neither how lmstack searches nor \
how it answers, before any question was asked, and were not changed. Of each twenty questions four \
have no answer in the files; old and new editions, numbers in tables, mails that quote mails, \
follow-ups and questions in another language are among the others. No answer is edited or chosen. \
Verdicts are by hand: what is closest but not given as an answer counts as partly right if it \
holds the answer, and as refused otherwise.

They have become a tuning set: follow-ups and questions in another language were mended by them, \
and the first time they were asked 24 of the sixty were right or rightly refused. Now {fine} are, \
{partly} are partly right, and {wrong} are answered wrongly: read what is quoted before you \
believe what is written.

The questions about these pages do not show how answers do on pages that nobody prepared: in the \
first run one of the eleven was right and five were wrong, mostly because the pages did not say \
it, and then they were given the sentences that were missing (what is sent home, whether a GPU is \
used, where an index is kept, how a model is deleted or replaced, how an answer is exported). \
[Quality](quality.md) has the figures for documents and questions by others.

`python benchmarks/first_questions.py` asks again and writes this page, which is left out of the \
index of these pages, because it repeats the questions.
"""


@dataclass(frozen=True)
class Question:
    about: str
    kind: str
    question: str
    expected: str
    after: str = ""


@dataclass(frozen=True)
class Verdict:
    """``printed``: the digest of the text that was judged."""

    question: str
    printed: str
    verdict: str
    why: str = ""


def read_questions() -> list[Question]:
    return [Question(**json.loads(line)) for line in QUESTIONS.read_text().splitlines()]


def read_verdicts() -> dict[tuple[str, str], Verdict]:
    if not VERDICTS.exists():
        return {}
    rows = [Verdict(**json.loads(line)) for line in VERDICTS.read_text().splitlines()]
    return {(row.question, row.printed): row for row in rows}


def digest(printed: str) -> str:
    return hashlib.sha256(printed.encode()).hexdigest()[:12]


def asked_all(questions: Sequence[Question]) -> dict[str, str]:
    """What is printed for each question, without the last line, which has the seconds."""
    printed = {}
    with in_scratch() as folders:
        for about, folder in folders.items():
            with answering(folder) as answerer:
                for one in questions:
                    if one.about == about:
                        history = [(one.after, told_before(answerer, one.after))]
                        text = ask(answerer, one.question, history if one.after else [])
                        printed[one.question] = text
    return printed


@contextlib.contextmanager
def in_scratch() -> Iterator[dict[str, pathlib.Path]]:
    """Copies of all folders, in a current folder of their own."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        shutil.copytree(DOCS, "docs", ignore=shutil.ignore_patterns("pictures"))
        write_folders(pathlib.Path())
        yield {name: pathlib.Path(name) for name in TITLES}


@contextlib.contextmanager
def answering(folder: pathlib.Path) -> Iterator[Answerer]:
    """What `lmstack ask --docs FOLDER` answers with; the index lies in the current folder."""
    place = pathlib.Path(f"{folder}.idx")
    with (
        retrieval.answer_reranker_ahead(print) as reranker,
        documents.open_index(place, None, create=True) as index,
    ):
        index.update([folder])
        with documents.answering(index.matching(None), reranker, None, None) as (ready, _):
            yield ready


def told_before(answerer: Answerer, question: str) -> str:
    return asyncio.run(answerer.answer(question)).answer if question else ""


def ask(answerer: Answerer, question: str, history: Sequence[tuple[str, str]]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        printed = PrintedAnswer(Output())
        asyncio.run(_see(answerer, question, history, printed))
        printed.end()
    return shown.getvalue().strip().rpartition("\n")[0].rstrip()


async def _see(
    answerer: Answerer,
    question: str,
    history: Sequence[tuple[str, str]],
    printed: PrintedAnswer,
) -> None:
    async def events() -> AsyncGenerator[AnswerEvent, None]:
        async for event in answerer.stream(question, history):
            yield event
            if isinstance(event, AnswerDone):
                return

    async for event in told(events(), answerer.index, lambda path: os.path.relpath(path)):
        printed.see(event)


def page(
    questions: Sequence[Question],
    printed: Mapping[str, str],
    verdicts: Mapping[tuple[str, str], Verdict],
) -> str:
    def judged(one: Question) -> Verdict:
        key = (one.question, digest(printed[one.question]))
        return verdicts.get(key, Verdict(*key, "not judged"))

    of_folders = [judged(one).verdict for one in questions if one.about != "docs"]
    fine = of_folders.count("right") + of_folders.count("rightly refused")
    partly, wrong = of_folders.count("partly"), of_folders.count("wrong")
    parts = [PREFACE.format(fine=fine, partly=partly, wrong=wrong)]
    parts += [counts([(one, judged(one)) for one in questions])]
    parts += ["<!-- measured: benchmarks/first_questions.py -->"]
    parts += ["| Question | What it asks for | Verdict | Why |", "|---|---|---|---|"]
    for one in questions:
        row = judged(one)
        link = f"[{one.question}](#{slug(one.question)})"
        parts.append(f"| {link} | {one.kind} | {row.verdict} | {row.why} |")
    parts.append(f"\n{WEAK}".rstrip())
    for about, title in TITLES.items():
        parts.append(f"\n## {title}")
        for one in questions:
            if one.about == about:
                after = f"After “{one.after}”\n\n" if one.after else ""
                text = printed[one.question]
                parts.append(f"\n### {one.question}\n\n{after}````text\n{text}\n````")
    return "\n".join(parts) + "\n"


def counts(judged: Sequence[tuple[Question, Verdict]]) -> str:
    found = [kind for kind in (*KINDS, "not judged") if any(v.verdict == kind for _, v in judged)]
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for about, title in TITLES.items():
        of_it = [verdict.verdict for one, verdict in judged if one.about == about]
        row = " | ".join(str(of_it.count(kind)) for kind in found)
        lines.append(f"| {title} | {row} |")
    return "\n".join(lines) + "\n"


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page from what is recorded")
    args = parser.parse_args()
    questions, verdicts = read_questions(), read_verdicts()
    if args.page:
        printed = json.loads(RESULT.read_text())
    else:
        printed = asked_all(questions)
        RESULT.write_text(json.dumps(printed, ensure_ascii=False, indent=1) + "\n")
    PAGE.write_text(page(questions, printed, verdicts))
    for one in questions:
        key = (one.question, digest(printed[one.question]))
        if key not in verdicts:
            print(json.dumps(asdict(Verdict(*key, "")), ensure_ascii=False))


if __name__ == "__main__":
    main()
