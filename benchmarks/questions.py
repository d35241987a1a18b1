"""Answers on the question set: right, cited, abstained; for the default model and its bounds.

    make bench-questions                                    the default settings
    python benchmarks/questions.py --set max_quote_chars=400
    python benchmarks/questions.py --wrong                  list what went wrong
    python benchmarks/questions.py --quick                  the first questions of one corpus
    python benchmarks/questions.py --questions benchmarks/questions/development.jsonl

60 questions about docs/ and three small corpora: 40 have an answer in their corpus, 20 do not.
They are asked and judged as a task of `lmstack eval` is: `lmstack.evals.metrics.cited_answer` says
what each figure is. An answer is right if it matches one of the question's patterns. Odd numbered
questions are the ones to tune on (with a development set besides); even numbered ones are held
out, and both are reported. The upper bound is an oracle that quotes the right sentence whenever
it is among the passages that the model reads and abstains whenever there is none.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from spine import processor

from lmstack.app.wiring.retrieval import DEFAULT_RERANKER, WEIGHTS
from lmstack.evals.evaluated_index import EvaluatedIndex
from lmstack.evals.metrics import CitedAnswer, CitedGold
from lmstack.evals.results import SampleResult
from lmstack.evals.run import run_sync
from lmstack.evals.system_tasks import AskIndex
from lmstack.evals.task import Dataset, Sample, Subject, Task
from lmstack.rag import AnswerConfig, Answerer, Index
from lmstack.serve import LocalEmbedder, LocalModel
from lmstack.serve.tasks import LocalReranker

HERE = pathlib.Path(__file__).parent
QUESTIONS = HERE / "questions" / "questions.jsonl"
SCORER = CitedAnswer(patterns=True)
# Questions of a quick run.
QUICK = 6


@dataclass(frozen=True)
class Question:
    id: str
    corpus: str
    question: str
    gold: CitedGold

    @property
    def held_out(self) -> bool:
        return int(self.id.rsplit("-", 1)[1]) % 2 == 0

    @property
    def sample(self) -> Sample:
        return Sample(self.id, self.question, metadata={"gold": self.gold.to_json()})


@dataclass(frozen=True)
class Outcome:
    question: Question
    row: SampleResult

    @property
    def scores(self) -> Mapping[str, float]:
        return self.row.scores

    @property
    def fine(self) -> bool:
        """Right, or refused where nothing answers."""
        return self.scores["correct"] == 1


def read_questions(path: pathlib.Path = QUESTIONS) -> list[Question]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Question(row["id"], row["corpus"], row["question"], CitedGold.of_row(row, "accept"))
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


def share(hits: int, of: int) -> dict[str, Any]:
    """A proportion with its 95 % Wilson interval."""
    if not of:
        return {"share": None, "hits": 0, "of": 0, "low": None, "high": None}
    z, p = 1.96, hits / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"share": p, "hits": hits, "of": of, "low": low, "high": high}


def summed(rows: Iterable[Mapping[str, float]], top: str, bottom: str = "") -> dict[str, Any]:
    """The sum of one score over that of another, or over how many rows there are."""
    table = list(rows)
    of = sum(row[bottom] for row in table) if bottom else len(table)
    return share(round(sum(row[top] for row in table)), round(of))


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    every = [o.scores for o in outcomes]
    yes = [row for row in every if row["answerable"]]
    no = [row for row in every if not row["answerable"]]
    return {
        "right": summed(yes, "answer_correct"),
        "right_when_answered": summed(yes, "answer_correct", "answered"),
        "abstention": summed(no, "correct"),
        "false_abstention": summed(yes, "wrongly_refused"),
        "citation_validity": summed(every, "valid_citations", "citations"),
        "citation_precision": summed(yes, "precise_citations", "citations"),
        "oracle_right": summed(yes, "answer_in_passages"),
        "seconds_an_answer": sum(o.row.seconds for o in outcomes) / len(outcomes),
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
        self.indexes: dict[str, Index] = {}
        for name in sorted({q.corpus for q in self.questions}):
            index = stack.enter_context(Index.open(scratch / f"{name}.index", self.embedder))
            index.update([copy_corpus(name, scratch)])
            self.indexes[name] = index

    def run(
        self, config: AnswerConfig, questions: Iterable[Question] | None = None
    ) -> list[Outcome]:
        """One question at a time, so that the seconds are those of an answer."""
        asked = list(self.questions if questions is None else questions)
        found: dict[str, SampleResult] = {}
        for corpus in dict.fromkeys(q.corpus for q in asked):
            samples = tuple(q.sample for q in asked if q.corpus == corpus)
            index = self.indexes[corpus]
            answerer = Answerer(index, self.model, config, reranker=self.reranker)
            subject = Subject(corpus, corpus, index=EvaluatedIndex(index, answerer))
            dataset = Dataset(corpus, samples, "benchmarks/questions")
            solver = AskIndex(faithfulness=False)
            task = Task(corpus, dataset, solver, SCORER, SCORER.metrics_for(samples))
            result = run_sync(task, subject, concurrency=1)
            result.check_complete()
            found |= {row.id: row for row in result.samples}
        return [Outcome(q, found[q.id]) for q in asked]


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
        if not o.fine:
            kind = "answerable" if o.question.gold.answerable else "not answerable"
            reachable = o.scores["answer_in_passages"] == 1
            print(
                f"\n{o.question.id} ({kind}, reachable {reachable}, {o.scores['confidence']:.2f})"
            )
            print(f"  {o.question.question}\n  -> {o.row.answer!r}")


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
