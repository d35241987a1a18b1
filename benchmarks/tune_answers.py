"""Settings of `AnswerConfig` on the questions that may be tuned on, from features made once.

    python benchmarks/tune_answers.py

Uses the odd numbered questions of the question set and a development set on the same documents,
which holds harder questions that have no answer. The held out questions are never read. For each
setting: right answers, false abstentions and abstentions, changing one setting at a time from
the defaults. Embeddings and likelihoods are made once and all settings are tried on them, so
what is not looked at here (the passages read, the reading of sentences) stays as it is.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from questions import QUESTIONS, Bench, Question, read_questions
from spine import processor

from lmstack.rag import AnswerConfig, Answerer
from lmstack.rag.answers.likelihood import question_likelihoods

DEVELOPMENT = QUESTIONS.with_name("development.jsonl")
SCORED = 10
GRID: dict[str, Sequence[float]] = {
    "similarity_weight": (0.4, 0.5, 0.6, 0.7, 0.8),
    "coverage_weight": (0.2, 0.3, 0.4, 0.5, 0.6),
    "heading_share": (0, 0.25, 0.5, 0.75, 1),
    "own_share": (0, 0.25, 0.5, 0.75, 1),
    "unheard_penalty": (0, 0.1, 0.2, 0.3),
    "min_evidence": (0.34, 0.36, 0.38, 0.4, 0.42, 0.44, 0.46),
    "candidate_margin": (0, 0.05, 0.1, 0.2),
    "likelihood_weight": (0, 0.05, 0.1, 0.15, 0.2, 0.3),
}


@dataclass(frozen=True)
class Features:
    """Of one sentence: cosine in context and the better of it and that alone; words found in it
    and with its context; mean log-probability of a token of the question after it."""

    similarity: tuple[float, float]
    coverage: tuple[float, float]
    likelihood: float
    right: bool

    def evidence(self, config: AnswerConfig) -> float:
        low, high = self.similarity
        own, context = self.coverage
        similarity = low + config.own_share * (high - low)
        coverage = own + config.heading_share * (context - own)
        return config.similarity_weight * similarity + config.coverage_weight * coverage


@dataclass(frozen=True)
class Case:
    question: Question
    unheard: bool
    sentences: list[Features]

    def outcome(self, config: AnswerConfig) -> tuple[bool, bool]:
        """Whether it abstains, and whether the sentence it quotes is right."""
        ranked = sorted(self.sentences, key=lambda s: -s.evidence(config))[: config.candidates]
        best = ranked[0].evidence(config)
        if best - self.unheard * config.unheard_penalty < config.min_evidence:
            return True, False
        close = [s for s in ranked if s.evidence(config) >= best - config.candidate_margin]
        weight = config.likelihood_weight
        chosen = max(close, key=lambda s: s.evidence(config) + weight * s.likelihood)
        return False, chosen.right


def read_case(bench: Bench, question: Question) -> Case:
    index = bench.indexes[question.corpus]
    low, high = (
        Answerer(
            index, bench.model, AnswerConfig(own_share=share, heading_share=share, min_evidence=-1)
        ).find(question.question)
        for share in (0, 1)
    )
    pairs = sorted(
        zip(low.sentences, high.sentences, strict=True),
        key=lambda pair: -(pair[0].evidence + pair[1].evidence),
    )[:SCORED]
    scored = asyncio.run(
        question_likelihoods(bench.model, question.question, [sentence for sentence, _ in pairs])
    )
    assert scored is not None
    return Case(
        question,
        bool(low.unheard),
        [
            Features(
                (one.similarity, other.similarity),
                (one.coverage, other.coverage),
                likelihood,
                question.accepts(one.shown),
            )
            for (one, other), likelihood in zip(pairs, scored[0], strict=True)
        ],
    )


def summary(cases: Iterable[Case], config: AnswerConfig) -> str:
    outcomes = [(case.question.answerable, *case.outcome(config)) for case in cases]
    yes = [(abstains, right) for answerable, abstains, right in outcomes if answerable]
    no = [abstains for answerable, abstains, _ in outcomes if not answerable]
    return (
        f"right {sum(right for _, right in yes):3} of {len(yes)}, "
        f"false abstentions {sum(abstains for abstains, _ in yes):2}, "
        f"abstentions {sum(no):2} of {len(no)}"
    )


def main() -> None:
    tuned = [q for q in read_questions() if not q.held_out]
    with ExitStack() as stack:
        bench = Bench(stack)
        sets = {
            "odd": [read_case(bench, q) for q in tuned],
            "development": [read_case(bench, q) for q in read_questions(pathlib.Path(DEVELOPMENT))],
        }
    for name, values in GRID.items():
        print(f"\n{name}")
        for value in values:
            config = AnswerConfig().replace(**{name: value})
            mark = "*" if getattr(AnswerConfig(), name) == value else " "
            results = "  |  ".join(
                f"{key}: {summary(cases, config)}" for key, cases in sets.items()
            )
            print(f" {mark}{value:<6} {results}")
    print(f"\non {processor()}")


if __name__ == "__main__":
    main()
