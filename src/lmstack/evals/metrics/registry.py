"""Scorers by name, as a task's YAML asks for them.

    scorer: exact_match
    scorer: {name: pass_at_k, k: [1, 10]}
    scorer: [squad, {name: usage, price: {input: 0.5, output: 1.5}}]
    scorer: {name: rubric, reference: answer}     # asks a judge
    scorer: {file: score.py}                      # `own_scorer`

Not covered: reading YAML, and data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lmstack.core import ChatModel, InputError, nearest, shown
from lmstack.evals.judging.scorers import JUDGED, judged_scorer
from lmstack.evals.metrics.agent_run import AgentRun
from lmstack.evals.metrics.bertscore import BertScore, EncoderFactory
from lmstack.evals.metrics.bleu import Bleu, Chrf
from lmstack.evals.metrics.cited_answer import CitedAnswer
from lmstack.evals.metrics.json_match import JsonMatch
from lmstack.evals.metrics.likelihood import Mc1, Mc2, MultipleChoiceScorer, NextToken, Perplexity
from lmstack.evals.metrics.own_scorer import OwnScorer
from lmstack.evals.metrics.passk import PassAtK
from lmstack.evals.metrics.retrieval import Retrieval
from lmstack.evals.metrics.rouge import Rouge
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
from lmstack.evals.task import Sample

__all__ = ["SCORERS", "make_scorer", "scorer_names"]

_CONFIGURED: tuple[type[ConfiguredScorer], ...] = (
    AgentRun,
    Bleu,
    Chrf,
    CitedAnswer,
    ExactMatch,
    ExtractedMatch,
    Includes,
    JsonMatch,
    Mc1,
    Mc2,
    MultipleChoiceScorer,
    NextToken,
    NumericMatch,
    PassAtK,
    Perplexity,
    PrefixMatch,
    Retrieval,
    Rouge,
    Squad,
    UsageScorer,
)
SCORERS: Mapping[str, type[ConfiguredScorer]] = MappingProxyType(
    {each.name: each for each in _CONFIGURED}
)


def scorer_names() -> tuple[str, ...]:
    return tuple(sorted((*SCORERS, *JUDGED, BertScore.name)))


def make_scorer(
    wanted: str | Mapping[str, Any] | Sequence[Any],
    *,
    encoder: EncoderFactory | None = None,
    samples: Sequence[Sample] = (),
    judge: ChatModel | None = None,
) -> MetricScorer:
    """``wanted``: a name, a mapping with ``name`` and the scorer's parameters, or several of them,
    whose scores then stand side by side; a Python file as ``{"file": PATH}``. ``encoder``: for
    bert_score, of the model and the layer that it names; its weights are taken over the references
    of ``samples``. ``judge``: for rubric and pairwise. `InputError` for what is unknown, with the
    nearest name."""
    if isinstance(wanted, str):
        return _made(wanted, {}, encoder, samples, judge)
    if isinstance(wanted, Mapping):
        if set(wanted) == {"file"} and isinstance(wanted["file"], str):
            return OwnScorer.load(Path(wanted["file"]))
        rest = dict(wanted)
        name = rest.pop("name", None)
        if not isinstance(name, str):
            raise InputError(
                f"the scorer {shown(dict(wanted))} has no name",
                hint=f"write name: and one of {', '.join(scorer_names())}; or {{file: score.py}}",
                param="scorer",
            )
        return _made(name, rest, encoder, samples, judge)
    if not isinstance(wanted, Sequence) or not wanted:
        raise InputError(
            f"the scorer is {shown(wanted)}, not a name, a mapping or a list",
            hint=f"known: {', '.join(scorer_names())}",
            param="scorer",
        )
    return Combined(
        tuple(make_scorer(each, encoder=encoder, samples=samples, judge=judge) for each in wanted)
    )


def _made(
    name: str,
    parameters: Mapping[str, Any],
    encoder: EncoderFactory | None,
    samples: Sequence[Sample],
    judge: ChatModel | None,
) -> MetricScorer:
    if name in JUDGED:
        return judged_scorer(name, parameters, judge)
    if name == BertScore.name:
        return _bert_score(parameters, encoder, samples)
    if name not in SCORERS:
        guess = nearest(name, scorer_names())
        hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(scorer_names())}"
        raise InputError(f"there is no scorer {shown(name)}", hint=hint, param="scorer")
    return SCORERS[name].from_mapping(parameters)


def _bert_score(
    parameters: Mapping[str, Any], encoder: EncoderFactory | None, samples: Sequence[Sample]
) -> BertScore:
    known = ("model", "layer", "idf", "baseline")
    for key in parameters:
        if key not in known:
            raise InputError(
                f"bert_score has no setting {shown(key)}",
                hint=f"known: {', '.join(known)}",
                param=str(key),
            )
    if encoder is None:
        raise InputError(
            "bert_score has no encoder to compare texts by",
            hint="pass encoder=, which opens one",
            param="scorer",
        )
    model, layer = parameters.get("model"), parameters.get("layer")
    if model is not None and not isinstance(model, str):
        raise InputError(f"model is {shown(model)}, not the name of a model", param="model")
    if layer is not None and (isinstance(layer, bool) or not isinstance(layer, int)):
        raise InputError(f"layer is {shown(layer)}, not the number of a layer", param="layer")
    idf = parameters.get("idf", False)
    if not isinstance(idf, bool):
        raise InputError(f"idf is {shown(idf)}, not true or false", param="idf")
    baseline = parameters.get("baseline")
    if baseline is not None and (isinstance(baseline, str) or not isinstance(baseline, Sequence)):
        raise InputError(f"baseline is {shown(baseline)}, not three numbers", param="baseline")
    values = None if baseline is None else tuple(baseline)
    opened = encoder(model, layer)
    return BertScore.with_idf(opened, samples, values) if idf else BertScore(opened, None, values)
