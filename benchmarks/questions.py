"""Answers on the question set: right, cited, abstained; for the default model and its bounds.

    make bench-questions                                    the default settings
    python benchmarks/questions.py --set max_quote_chars=400
    python benchmarks/questions.py --wrong                  list what went wrong
    python benchmarks/questions.py --quick                  the first questions of one corpus
    python benchmarks/questions.py --questions benchmarks/questions/development.jsonl

60 questions about docs/ and three small corpora: 40 have an answer in their corpus, 20 do not.
An answer is right if it matches one of the question's patterns. A citation is valid if it names
a passage that was retrieved and its quote is the document's text between its offsets, and
precise if the quote overlaps a gold span or matches a pattern. Odd numbered questions are the
ones to tune on (with a development set besides); even numbered ones are held
out, and both are reported. The upper bound is an oracle that quotes the right sentence whenever
it is among the passages that the model reads and abstains whenever there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from spine import processor

from lmstack.app.wiring.retrieval import DEFAULT_RERANKER, WEIGHTS
from lmstack.rag import Answer, AnswerConfig, Answerer, Index
from lmstack.serve import LocalEmbedder, LocalModel
from lmstack.serve.tasks import LocalReranker

HERE = pathlib.Path(__file__).parent
QUESTIONS = HERE / "questions" / "questions.jsonl"
# Questions of a quick run.
QUICK = 6


@dataclass(frozen=True)
class Question:
    id: str
    corpus: str
    question: str
    answerable: bool
    accept: tuple[str, ...]
    evidence: tuple[tuple[str, str], ...]

    @property
    def held_out(self) -> bool:
        return int(self.id.rsplit("-", 1)[1]) % 2 == 0

    def accepts(self, text: str) -> bool:
        return any(re.search(pattern, text, re.IGNORECASE) for pattern in self.accept)


@dataclass(frozen=True)
class Outcome:
    """``reachable``: whether the right sentence was among the passages that were read."""

    question: Question
    answer: Answer
    right: bool
    valid: int
    precise: int
    reachable: bool


def read_questions(path: pathlib.Path = QUESTIONS) -> list[Question]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Question(
            row["id"],
            row["corpus"],
            row["question"],
            row["answerable"],
            tuple(row.get("accept", ())),
            tuple((e["path"], e["quote"]) for e in row.get("evidence", ())),
        )
        for row in rows
    ]


def corpus_folder(name: str) -> pathlib.Path:
    return HERE.parent / "docs" if name == "docs" else HERE / "questions" / "corpora" / name


def copy_corpus(name: str, scratch: pathlib.Path) -> pathlib.Path:
    """A copy without the pages that give these figures, which would leak the answers' scores."""
    folder = scratch / name
    shutil.copytree(corpus_folder(name), folder)
    (folder / "quality.md").unlink(missing_ok=True)
    return folder


def overlaps(start: int, end: int, text: str, quote: str) -> bool:
    at = text.find(quote)
    return at >= 0 and start < at + len(quote) and at < end


def refused(answer: Answer) -> bool:
    return answer.outcome != "answer"


def judge(question: Question, answer: Answer, folder: pathlib.Path, passages: int) -> Outcome:
    retrieved = {(hit.path, hit.start, hit.end) for hit in answer.hits}
    valid = precise = 0
    for c in answer.citations:
        text = pathlib.Path(c.path).read_text()
        inside = any(
            path == c.path and start <= c.start and c.end <= end for path, start, end in retrieved
        )
        valid += inside and text[c.start : c.end] == c.quote
        # A path is given as it opens from the current folder.
        name = str(pathlib.Path(c.path).resolve().relative_to(folder.resolve()))
        gold = any(n == name and overlaps(c.start, c.end, text, q) for n, q in question.evidence)
        precise += question.answerable and (gold or question.accepts(c.quote))
    right = question.answerable and not refused(answer) and question.accepts(answer.answer)
    reachable = any(question.accepts(hit.text) for hit in answer.hits[:passages])
    return Outcome(question, answer, right, valid, precise, question.answerable and reachable)


def share(hits: int, of: int) -> dict[str, Any]:
    """A proportion with its 95 % Wilson interval."""
    if not of:
        return {"share": None, "hits": 0, "of": 0, "low": None, "high": None}
    z, p = 1.96, hits / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"share": p, "hits": hits, "of": of, "low": low, "high": high}


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    yes = [o for o in outcomes if o.question.answerable]
    no = [o for o in outcomes if not o.question.answerable]
    citations = [o for o in outcomes if o.answer.citations]
    answered = [o for o in yes if not refused(o.answer)]
    return {
        "right": share(sum(o.right for o in yes), len(yes)),
        "right_when_answered": share(sum(o.right for o in answered), len(answered)),
        "abstention": share(sum(refused(o.answer) for o in no), len(no)),
        "false_abstention": share(sum(refused(o.answer) for o in yes), len(yes)),
        "citation_validity": share(
            sum(o.valid for o in citations), sum(len(o.answer.citations) for o in citations)
        ),
        "citation_precision": share(
            sum(o.precise for o in yes), sum(len(o.answer.citations) for o in yes)
        ),
        "oracle_right": share(sum(o.reachable for o in yes), len(yes)),
        "seconds_an_answer": sum(o.answer.timings.total_s for o in outcomes) / len(outcomes),
    }


def load_reranker() -> LocalReranker:
    """As the commands have it."""
    return LocalReranker.load(DEFAULT_RERANKER, weights=WEIGHTS, cut=True)


class Bench:
    """The corpora indexed once, and the default models loaded once, for many settings."""

    def __init__(
        self, stack: ExitStack, path: pathlib.Path = QUESTIONS, *, quick: bool = False
    ) -> None:
        self.questions = read_questions(path)
        if quick:
            corpus = self.questions[-1].corpus
            self.questions = [q for q in self.questions if q.corpus == corpus][:QUICK]
        self.embedder = LocalEmbedder.load("all-minilm-l6-v2")
        self.model = LocalModel.load("smollm2-135m-instruct")
        stack.callback(self.model.close)
        self.reranker = load_reranker()
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.folders, self.indexes = {}, {}
        for name in sorted({q.corpus for q in self.questions}):
            self.folders[name] = copy_corpus(name, scratch)
            index = stack.enter_context(Index.open(scratch / f"{name}.index", self.embedder))
            index.update([self.folders[name]])
            self.indexes[name] = index

    def run(
        self, config: AnswerConfig, questions: Iterable[Question] | None = None
    ) -> list[Outcome]:
        outcomes = []
        for q in self.questions if questions is None else questions:
            answerer = Answerer(self.indexes[q.corpus], self.model, config, reranker=self.reranker)
            answer = asyncio.run(answerer.answer(q.question))
            outcomes.append(judge(q, answer, self.folders[q.corpus], config.passages))
        return outcomes


def parse_settings(pairs: Sequence[str]) -> AnswerConfig:
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return AnswerConfig.from_mapping(values)


def show(title: str, summary: dict[str, Any]) -> None:
    print(f"\n{title}")
    for name, value in summary.items():
        if isinstance(value, float):
            print(f"  {name:22}{value:6.2f}")
        elif value["of"]:
            print(
                f"  {name:22}{value['share']:6.2f}  [{value['low']:.2f}, {value['high']:.2f}]"
                f"  {value['hits']} of {value['of']}"
            )


def show_wrong(outcomes: Sequence[Outcome]) -> None:
    for o in outcomes:
        fine = o.right if o.question.answerable else refused(o.answer)
        if not fine:
            kind = "answerable" if o.question.answerable else "not answerable"
            print(f"\n{o.question.id} ({kind}, reachable {o.reachable}, {o.answer.confidence:.2f})")
            print(f"  {o.question.question}\n  -> {o.answer.answer!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=pathlib.Path, default=None)
    parser.add_argument("--label", default="default", help="name of this run in the JSON file")
    parser.add_argument("--questions", type=pathlib.Path, default=QUESTIONS)
    parser.add_argument("--wrong", action="store_true", help="list the questions that went wrong")
    parser.add_argument("--quick", action="store_true", help="a few questions of one corpus")
    args = parser.parse_args()
    config = parse_settings(args.set)
    with ExitStack() as stack:
        bench = Bench(stack, args.questions, quick=args.quick)
        start = time.perf_counter()
        outcomes = bench.run(config)
        seconds = time.perf_counter() - start
    groups = {
        "all": outcomes,
        "tuned on": [o for o in outcomes if not o.question.held_out],
        "held out": [o for o in outcomes if o.question.held_out],
    }
    summaries = {name: summarise(group) for name, group in groups.items()}
    for name, summary in summaries.items():
        show(f"{name} ({len(groups[name])} questions)", summary)
    if args.wrong:
        show_wrong(outcomes)
    print(f"\n{len(outcomes)} questions in {seconds:.0f} s on {processor()}")
    if args.json:
        runs = json.loads(args.json.read_text()) if args.json.exists() else {}
        runs[args.label] = {
            "machine": processor(),
            "config": dataclasses.asdict(config),
            "summaries": summaries,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
