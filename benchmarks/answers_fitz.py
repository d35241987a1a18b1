"""Collections from fitz-gov: questions with contexts that answer, dispute, hedge, or do not answer.

fitz-cases: every fourth case, by a hash, is asked of its own contexts. Its expected mode says
    whether they answer (direct, hedged, disputed: `answerable`; all contexts are gold, so only
    refusals tell) or not (abstain: a near miss). Cases of grounding and relevance set traps; only
    their patterns are judged: claims that may not be made, and words of which some must be there.
fitz-compare: all cases of comparative reasoning that their contexts answer, over the contexts of
    all of them. The gold is a case's own contexts.
fitz-corpus: the passages of the corpus and the questions that are mapped to them and are no case of
    the first, over all passages. The gold is the passages mapped to it. Questions to abstain from
    are near misses if something was put beside them on purpose (`decoy_docs`).

Kinds are the set's: its type of reasoning (comparative: "compare", procedural: "how", causal:
"why", evaluative: "judgement", factual: "fact", temporal: "time"); titles are left out, for they
say what is the matter with an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from answers_data import (
    Collection,
    Gold,
    Item,
    Patterns,
    is_fourth,
    merged,
    numbered,
    without_a_quarter,
)
from pinned import FITZ_GOV, wheel_files

__all__ = ["FITZ"]

_CATEGORIES = (
    *("trustworthy_direct", "trustworthy_hedged", "dispute"),
    *("abstention", "grounding", "relevance"),
)
_ANSWERED = frozenset(("trustworthy_direct", "trustworthy_hedged", "dispute"))
_MODES = {"trustworthy_direct": "direct", "trustworthy_hedged": "hedged", "dispute": "disputed"}
_REASONING = {
    "comparative": "compare",
    "procedural": "how",
    "causal": "why",
    "evaluative": "judgement",
    "factual": "fact",
    "temporal": "time",
}
Row = Mapping[str, Any]


def _read(*names: str) -> list[str]:
    return [
        path.read_text("utf-8")
        for path in wheel_files(FITZ_GOV, [f"fitz_gov/data/{name}" for name in names])
    ]


def _cases() -> list[Row]:
    texts = _read(*(f"tier1_core/{category}.json" for category in _CATEGORIES))
    return [case for text in texts for case in json.loads(text)["cases"]]


def fitz_cases() -> Collection:
    cases = [case for case in _cases() if is_fourth(case["id"])]
    names = numbered(context for case in cases for context in case["contexts"])
    items = []
    for case in cases:
        scope = tuple(dict.fromkeys(names[context] for context in case["contexts"]))
        category = case["category"]
        kinds = (_REASONING[case["reasoning_type"]], _MODES.get(category, category))
        items.append(
            Item(
                case["query"],
                kinds,
                tuple(map(Gold, scope)) if category in _ANSWERED else (),
                near_miss=category == "abstention",
                scope=scope,
                patterns=_patterns(case),
            )
        )
    documents = {path: text for text, path in names.items()}
    return Collection("fitz-cases", "en", documents, merged(items), trivial=True)


def fitz_compare() -> Collection:
    cases = [
        case
        for case in _cases()
        if case["category"] in _ANSWERED and case["reasoning_type"] == "comparative"
    ]
    names = numbered(context for case in cases for context in case["contexts"])
    items = [
        Item(
            case["query"],
            ("compare", _MODES[case["category"]]),
            tuple(Gold(names[context]) for context in case["contexts"]),
        )
        for case in cases
    ]
    documents = {path: text for text, path in names.items()}
    return without_a_quarter(Collection("fitz-compare", "en", documents, merged(items)))


def _patterns(case: Row) -> Patterns | None:
    if case["category"] == "grounding":
        return Patterns(forbidden=tuple(case["forbidden_claims"]))
    if case["category"] != "relevance":
        return None
    config, required = case["evaluation_config"], case["required_elements"]
    plain = required if config.get("use_regex") else map(re.escape, required)
    return Patterns(required=tuple(plain), at_least=config.get("min_required", 1))


def fitz_corpus() -> Collection:
    corpus, mappings = _read("corpus/documents.jsonl", "queries/query_mappings.json")
    rows = [json.loads(line) for line in corpus.splitlines() if line.strip()]
    texts = {row["id"]: row["content"] for row in rows}
    names = numbered(texts.values())
    known = {case["query"] for case in _cases()}
    items = []
    for category, group in json.loads(mappings)["mappings"].items():
        answered = category in _ANSWERED
        for row in group.values():
            beside = row["relevant_docs"] if answered else row.get("decoy_docs", ())
            wanted = answered or category == "abstention"
            if wanted and beside and row["query"] not in known:
                golds = tuple(Gold(names[texts[each]]) for each in beside)
                kinds = (_MODES.get(category, category),)
                items.append(Item(row["query"], kinds, golds, near_miss=not answered))
    documents = {path: text for text, path in names.items() if text.strip()}
    return without_a_quarter(Collection("fitz-corpus", "en", documents, merged(items)))


FITZ = {"fitz-cases": fitz_cases, "fitz-compare": fitz_compare, "fitz-corpus": fitz_corpus}
