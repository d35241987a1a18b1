"""Settings of `AnswerConfig` on questions that may be tuned on, and what the threshold costs.

    python benchmarks/tune_answers.py                the question set's odd half, and development
    python benchmarks/tune_answers.py --planted 200  so many planted facts of the tuning seed, too
    python benchmarks/tune_answers.py --only min_evidence

The held out questions are never read. One setting at a time is changed from the defaults: right
answers, false abstentions and abstentions. Vectors and the reranker's scores are made once. The
language model has no say here (the strategy is `similarity`). At the end the threshold that is in
use is shown with the error rates that it has on all these questions, with their intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from citations import SEEDS, Side, sample_of
from planted import Question as PlantedQuestion
from questions import QUESTIONS, Bench, read_questions, share
from spine import processor

from lmstack.core import Reranker
from lmstack.rag import AnswerConfig, Answerer
from lmstack.rag.answers.evidence import Candidate, choose_candidates
from lmstack.rag.vectors.remembering import RememberingEmbedder
from lmstack.rag.view import IndexView

DEVELOPMENT = QUESTIONS.with_name("development.jsonl")
GRID: dict[str, Sequence[float]] = {
    "similarity_weight": (0.4, 0.5, 0.6),
    "coverage_weight": (0.2, 0.3, 0.4),
    "topic_weight": (0.15, 0.25, 0.35),
    "heading_share": (0.25, 0.5, 0.75),
    "own_share": (0.25, 0.5, 0.75),
    "name_penalty": (0.2, 0.3, 0.4),
    "number_penalty": (0.15, 0.25, 0.35),
    "kind_penalty": (0.1, 0.2, 0.3, 0.4),
    "edition_penalty": (0.15, 0.25, 0.35),
    "unheard_penalty": (0.1, 0.2, 0.3),
    "opening_bonus": (0, 0.1, 0.2, 0.3, 0.4),
    "reread_weight": (0, 0.02, 0.04, 0.06, 0.1),
    "min_evidence": (0.38, 0.4, 0.42, 0.43, 0.44, 0.46, 0.48, 0.5, 0.54),
}


@dataclass(frozen=True)
class Case:
    """``is_right``: whether quoting a sentence answers the question."""

    answerer: Answerer
    question: str
    answerable: bool
    is_right: Callable[[Candidate], bool]

    def outcome(self, config: AnswerConfig) -> tuple[bool, bool]:
        """Whether it abstains, and whether the sentence it would quote is right."""
        self.answerer.config = config
        chosen = choose_candidates(self.answerer.find(self.question).sentences, config)
        if not chosen:
            return True, False
        return False, self.is_right(max(chosen, key=lambda c: c.merit))


class RememberingReranker:
    def __init__(self, reranker: Reranker) -> None:
        self._reranker, self.info = reranker, reranker.info
        self._scores: dict[tuple[str, str], float] = {}

    def score(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        new = [p for p in dict.fromkeys(passages) if (query, p) not in self._scores]
        if new:
            scores = self._reranker.score(query, new).tolist()
            self._scores |= {(query, p): s for p, s in zip(new, scores, strict=True)}
        return np.array([self._scores[query, p] for p in passages], np.float32)


def answerer_over(index: IndexView, bench: Bench | Side) -> Answerer:
    made = Answerer(index, bench.model, reranker=RememberingReranker(bench.reranker))
    made._embedder = RememberingEmbedder(bench.embedder, 1_000_000)
    return made


def asked(bench: Bench) -> Iterator[tuple[str, list[Case]]]:
    answerers = {name: answerer_over(index, bench) for name, index in bench.indexes.items()}
    tuned = [q for q in read_questions() if not q.held_out]
    for name, questions in (("odd", tuned), ("development", read_questions(DEVELOPMENT))):
        yield (
            name,
            [
                Case(
                    answerers[q.corpus],
                    q.question,
                    q.answerable,
                    lambda c, q=q: q.accepts(c.shown) or q.accepts(c.quote),
                )
                for q in questions
            ],
        )


def planted(side: Side, count: int) -> list[Case]:
    """Of the questions that have one part."""
    answerer = answerer_over(side.index, side)

    def quoting(question: PlantedQuestion) -> Callable[[Candidate], bool]:
        golds = [
            (gold.path, span)
            for part in question.parts
            for gold in part
            for span in side.spans_of(gold.path, gold.pattern)
        ]
        return lambda c: any(
            side.name(c.hit.path) == path and c.start < end and start < c.end
            for path, (start, end) in golds
        )

    single = [q for q in side.questions if len(q.parts) < 2]
    return [Case(answerer, q.text, q.answerable, quoting(q)) for q in sample_of(single, count)]


def summary(cases: Sequence[Case], config: AnswerConfig) -> str:
    outcomes = [(case.answerable, *case.outcome(config)) for case in cases]
    yes = [(abstains, right) for answerable, abstains, right in outcomes if answerable]
    no = [abstains for answerable, abstains, _ in outcomes if not answerable]
    return (
        f"right {sum(right for _, right in yes):3} of {len(yes)}, "
        f"false abstentions {sum(abstains for abstains, _ in yes):2}, "
        f"abstentions {sum(no):2} of {len(no)}"
    )


def calibration(cases: Sequence[Case], config: AnswerConfig) -> None:
    outcomes = [(case.answerable, case.outcome(config)[0]) for case in cases]
    for title, answerable in (("false abstention", True), ("abstention", False)):
        of = [abstains for a, abstains in outcomes if a == answerable]
        found = share(sum(of), len(of))
        if of:
            print(
                f"  {title:18}{found['share']:.3f}  [{found['low']:.3f}, {found['high']:.3f}]"
                f"  {found['hits']} of {found['of']}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--planted", type=int, default=0, metavar="COUNT")
    parser.add_argument("--only", choices=list(GRID), nargs="+", default=list(GRID))
    args = parser.parse_args()
    with ExitStack() as stack:
        bench = Bench(stack)
        sets = dict(asked(bench))
        if args.planted:
            side = Side(stack, SEEDS["tune"], held_out=False, model="smollm2-135m-instruct")
            sets["planted"] = planted(side, args.planted)
        default = AnswerConfig(strategy="similarity")
        for name in args.only:
            print(f"\n{name}")
            for value in GRID[name]:
                mark = "*" if getattr(default, name) == value else " "
                config = default.replace(**{name: value})
                results = [f"{key}: {summary(cases, config)}" for key, cases in sets.items()]
                print(f" {mark}{value:<6} {'  |  '.join(results)}", flush=True)
        print(f"\nmin_evidence {default.min_evidence}, all of them")
        calibration([case for cases in sets.values() for case in cases], default)
    print(f"\non {processor()}")


if __name__ == "__main__":
    main()
