"""From a sample and an output to numbers, and from many of those to figures.

A scorer gives each sample named scores, a `lmstack.evals.task.Metric` sums them up for any choice
of samples, figures of a corpus too; so each has an interval and a paired test.
"""

from __future__ import annotations

from lmstack.evals.metrics.agent_run import AgentRun
from lmstack.evals.metrics.bertscore import BertScore, TokenEncoder, TokenVectors, bert_score
from lmstack.evals.metrics.bleu import Bleu, Chrf, corpus_chrf
from lmstack.evals.metrics.calibration import (
    PlattScaling,
    auc,
    auc_difference,
    brier,
    calibration_bins,
    calibration_error,
    calibration_metrics,
    log_score,
    risk_coverage,
)
from lmstack.evals.metrics.cited_answer import CitedAnswer
from lmstack.evals.metrics.cited_facts import CitedFacts, CitedGold
from lmstack.evals.metrics.likelihood import Mc1, Mc2, MultipleChoiceScorer, NextToken, Perplexity
from lmstack.evals.metrics.passk import PassAtK, pass_at_k
from lmstack.evals.metrics.registry import SCORERS, make_scorer, scorer_names
from lmstack.evals.metrics.retrieval import Retrieval
from lmstack.evals.metrics.rouge import Rouge, rouge
from lmstack.evals.metrics.scoring import Combined, ConfiguredScorer, MetricScorer
from lmstack.evals.metrics.text_match import (
    ExactMatch,
    ExtractedMatch,
    Includes,
    NumericMatch,
    PrefixMatch,
    Squad,
)
from lmstack.evals.metrics.usage import UsageScorer
from lmstack.evals.metrics.windows import ScoredWindow, rolling_windows, strided_windows

__all__ = [
    "SCORERS",
    "AgentRun",
    "BertScore",
    "Bleu",
    "Chrf",
    "CitedAnswer",
    "CitedFacts",
    "CitedGold",
    "Combined",
    "ConfiguredScorer",
    "ExactMatch",
    "ExtractedMatch",
    "Includes",
    "Mc1",
    "Mc2",
    "MetricScorer",
    "MultipleChoiceScorer",
    "NextToken",
    "NumericMatch",
    "PassAtK",
    "Perplexity",
    "PlattScaling",
    "PrefixMatch",
    "Retrieval",
    "Rouge",
    "ScoredWindow",
    "Squad",
    "TokenEncoder",
    "TokenVectors",
    "UsageScorer",
    "auc",
    "auc_difference",
    "bert_score",
    "brier",
    "calibration_bins",
    "calibration_error",
    "calibration_metrics",
    "corpus_chrf",
    "log_score",
    "make_scorer",
    "pass_at_k",
    "risk_coverage",
    "rolling_windows",
    "rouge",
    "scorer_names",
    "strided_windows",
]
