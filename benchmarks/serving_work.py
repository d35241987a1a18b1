"""What `serving.py` measures, on which prompts, and which ratios come out. Data and arithmetic: no
process is started here.

Prompts are pieces of the docs as token ids, the same for every side, and different from round to
round and from repeat to repeat, so that nothing that was read before helps anybody.
"""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

__all__ = ["MEASURES", "QUICK", "SIDES", "Measure", "Side", "Size", "job", "ratios", "summary"]

Ids = list[int]


@dataclass(frozen=True)
class Size:
    """How much is measured. ``short``: fewer repeats. Tokens of an answer, of a prompt that is
    read and of one that is shared; requests at once; texts that are embedded, of each length."""

    short: bool = False
    new: int = 128
    prompt: int = 1024
    shared: int = 1500
    requests: int = 64
    texts: tuple[int, int] = (400, 80)


QUICK = Size(True, 16, 128, 128, 4, (16, 4))


@dataclass(frozen=True)
class Measure:
    """``group``: measures of one group run in one process of a side. ``note``: what a reader of
    the figures has to know."""

    title: str
    unit: str
    group: str
    note: str = ""


MEASURES = {
    "decode": Measure("decode, one stream, 128 tokens", "tokens/s", "decode"),
    "prefill": Measure("prefill, 1,024 tokens", "tokens/s", "prefill"),
    "throughput64": Measure(
        "64 requests, 128 in / 128 out",
        "tokens/s",
        "throughput64",
        "transformers answers the first few of the requests one by one (see checks: requests), and "
        "each further one would take as long",
    ),
    "prefix_on": Measure("16 share 1,500 tokens, prefix cache", "requests/s", "prefix_on"),
    "prefix_off": Measure("16 share 1,500 tokens, no cache", "requests/s", "prefix_off"),
    "embed_short": Measure("embed, 30 tokens", "texts/s", "embed"),
    "embed_long": Measure("embed, 200 tokens", "texts/s", "embed"),
    "translate_single": Measure("translate, one by one, greedy", "tokens/s", "translate"),
    "translate_batch": Measure("translate, 32 at once, greedy", "tokens/s", "translate"),
    "gemma_decode": Measure("decode, gemma3-270m", "tokens/s", "gemma_decode"),
    "bandwidth": Measure("read memory", "bytes/s", "bandwidth"),
}


@dataclass(frozen=True)
class Side:
    """One way to compute: ``peer`` names its environment, None is lmstack's own."""

    name: str
    peer: str | None
    measures: tuple[str, ...]
    arguments: tuple[str, ...] = ()


_FORMS = ("decode", "prefill", "throughput64")  # one form of the weights does not suit them all
_LLAMA = ("decode", "prefill", "gemma_decode")
_EMBED = ("embed_short", "embed_long")
SIDES = (
    Side("lmstack", None, tuple(MEASURES)),
    Side("lmstack_default_form", None, _FORMS, ("default",)),
    Side("llamacpp", "llamacpp", _LLAMA),
    Side("xllamacpp", "xllamacpp", _LLAMA),
    Side("openvino", "openvino", ("decode", "prefill", "throughput64", *_EMBED)),
    Side("vllm", "vllm", ("decode", "prefill", "throughput64")),
    Side("transformers", "transformers", ("decode", "prefill", "throughput64")),
    Side("sentence_transformers_float32", "sentence_transformers", _EMBED, ("float32",)),
    Side("sentence_transformers_bfloat16", "sentence_transformers", _EMBED, ("bfloat16",)),
    Side("onnxruntime", "onnxruntime", _EMBED),
    Side("ctranslate2", "ctranslate2", ("translate_single", "translate_batch")),
)

_OURS = {side.name for side in SIDES if side.peer is None}


# --- prompts -----------------------------------------------------------------------------------


class Cutter:
    """Cuts a corpus into pieces that begin at different places, also from call to call."""

    def __init__(self, ids: Sequence[int], seed: int) -> None:
        self._ids, self._seed, self._cut = list(ids), seed, 0

    def __call__(self, length: int, count: int = 1) -> list[Ids]:
        """``count`` pieces of ``length``; no two have the same beginning."""
        pieces = []
        for _ in range(count):
            # A step that has no factor in common with most lengths, so starts rarely meet.
            start = ((self._seed * 613 + self._cut) * 7919) % (len(self._ids) - length)
            pieces.append(self._ids[start : start + length])
            self._cut += 1
        return pieces


def sentences(text: str, tokenizer: Tokenizer, tokens: int, count: int, seed: int) -> list[str]:
    """``count`` pieces of the text that the encoder reads as about ``tokens`` tokens."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = encoding.offsets  # a list that is made at each look
    # Pieces begin at words: what continues one is marked.
    starts = [i for i, token in enumerate(encoding.tokens) if not token.startswith("##")]
    inner = tokens - 2
    starts = [i for i in starts if i + inner < len(offsets)]
    pieces = []
    for i in range(count):
        first = starts[((seed * 613 + i) * 7919) % len(starts)]
        pieces.append(text[offsets[first][0] : offsets[first + inner - 1][1]])
    return pieces


def job(
    paths: Mapping[str, Any], corpus: str, gemma: Sequence[int], round_: int, size: Size
) -> dict[str, Any]:
    """What the sides of one round read. ``gemma``: the ids of the corpus, BOS first."""
    language = Tokenizer.from_file(str(pathlib.Path(paths["smollm2"]) / "tokenizer.json"))
    cut = Cutter(language.encode(corpus).ids, round_)
    encoder = Tokenizer.from_file(str(pathlib.Path(paths["minilm"]) / "tokenizer.json"))
    encoder.no_truncation()
    encoder.no_padding()
    of_gemma = Cutter(gemma[1:], round_)
    few = 2 if size.short else 3
    prefix = cut(size.shared)[0]
    made: dict[str, Any] = {
        "paths": dict(paths),
        # The same in every round: compared with the reference, which is computed once.
        "check": {"prompts": Cutter(language.encode(corpus).ids, 999)(24, 6), "new": 24},
        "decode": {"prompts": cut(16, few), "new": size.new},
        "prefill": {"warm": cut(size.prompt)[0], "prompts": cut(size.prompt, few)},
        "throughput64": {
            "warm": cut(128, 8),
            "prompts": cut(128, size.requests),
            "new": size.new,
            "one_by_one": 2 if size.short else 6,
        },
        "prefix": {"prompts": [prefix + own for own in cut(20, 16)], "new": 16},
        "gemma": {
            "warm": [gemma[0], *of_gemma(15)[0]],
            "prompts": [[gemma[0], *piece] for piece in of_gemma(15, few)],
            "new": size.new,
        },
        "bandwidth": {"seconds": 0.5 if size.short else 1.0},
    }
    for name, tokens, count in zip(_EMBED, (30, 200), size.texts, strict=True):
        count *= 1 if size.short else 2
        texts = sentences(corpus, encoder, tokens, count, round_)
        made[name] = {"texts": texts, "repeats": few}
    return made | translations(paths, corpus, round_, few)


def translations(
    paths: Mapping[str, Any], corpus: str, round_: int, repeats: int
) -> dict[str, Any]:
    tokenizer = Tokenizer.from_file(str(pathlib.Path(paths["t5"]) / "tokenizer.json"))
    words = corpus.split()
    rows = []
    for i in range(40):
        start = ((round_ * 613 + i) * 7919) % (len(words) - 40)
        text = " ".join(words[start : start + 16 + i % 17])
        rows.append(list(tokenizer.encode(f"translate English to German: {text}").ids))
    single = {"prompts": rows[:8], "warm": rows[-1], "new": 32, "repeats": repeats}
    return {"translate_single": single, "translate_batch": single | {"prompts": rows[:32]}}


# --- figures -----------------------------------------------------------------------------------

Figures = Mapping[str, Mapping[str, Sequence[float]]]  # measure: side: every repeat of each round


def summary(figures: Sequence[float]) -> dict[str, float]:
    """``spread``: from the lowest to the highest, as a share of the median."""
    median = statistics.median(figures)
    return {
        "best": max(figures),
        "median": median,
        "spread": (max(figures) - min(figures)) / median,
    }


def ratios(
    figures: Figures, weight_bytes: int | None, kind: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """``kind``: of `summary`, best or median. A ratio above 1: lmstack is faster. With them, why
    one is missing."""

    def value(measure: str, side: str) -> float | None:
        found = figures.get(measure, {}).get(side)
        return summary(found)[kind] if found else None

    found: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for key, pairs in _compared(figures).items():
        each = []
        for measure, ours, theirs in pairs:
            mine, others = value(measure, ours), [value(m, s) for m, s in theirs]
            known = [other for other in others if other is not None]
            if mine is None or not known:
                missing[key] = f"{measure}: no figure of {ours if mine is None else 'the peer'}"
                continue
            each.append(mine / max(known))
        found[key] = min(each) if each and key not in missing else None
    decode, bandwidth = value("decode", "lmstack"), value("bandwidth", "lmstack")
    share = weight_bytes and decode and bandwidth and weight_bytes * decode / bandwidth
    found["bandwidth_share"] = share or None
    if share is None:
        missing["bandwidth_share"] = "decode or bandwidth was not measured"
    return found, missing


Pair = tuple[str, str, list[tuple[str, str]]]  # measure, our side, (measure, side) of the peers


def _compared(figures: Figures) -> dict[str, list[Pair]]:
    """What each ratio divides; the lowest of its pairs counts, and of peers the fastest."""

    def versus(measure: str, *sides: str) -> Pair:
        return measure, "lmstack", [(measure, side) for side in sides]

    def everyone(measure: str) -> Pair:
        return versus(measure, *(s for s in figures.get(measure, {}) if s not in _OURS))

    llama, fp32 = ("llamacpp", "xllamacpp"), "sentence_transformers_float32"
    return {
        "decode_vs_llamacpp": [versus("decode", *llama)],
        "prefill_vs_best_peer": [everyone("prefill")],
        "throughput64_vs_openvino": [versus("throughput64", "openvino")],
        "throughput64_vs_vllm": [versus("throughput64", "vllm")],
        "throughput64_vs_transformers": [versus("throughput64", "transformers")],
        "prefix_cache_speedup": [("prefix_on", "lmstack", [("prefix_off", "lmstack")])],
        "embeddings_vs_sentence_transformers": [versus(m, fp32) for m in _EMBED],
        "embeddings_vs_best_peer": [everyone(m) for m in _EMBED],
        "translation_vs_ctranslate2": [
            versus(m, "ctranslate2") for m in ("translate_single", "translate_batch")
        ],
        "decode_vs_best_peer": [everyone("decode")],
        "gemma_vs_llamacpp": [versus("gemma_decode", *llama)],
        **{f"{m}_of_default_form": [(m, "lmstack_default_form", [(m, "lmstack")])] for m in _FORMS},
        **{f"{m}_vs_sentence_transformers": [versus(m, fp32)] for m in _EMBED},
        **{f"{m}_vs_best_peer": [everyone(m)] for m in _EMBED},
        **{
            f"{m}_vs_ctranslate2": [versus(m, "ctranslate2")]
            for m in ("translate_single", "translate_batch")
        },
    }


def agreement(tokens: Sequence[Ids], reference: Sequence[Ids]) -> dict[str, float]:
    """``leading``: tokens in common before the first other one, on average; ``begin``: share of
    answers whose first four tokens are the reference's, which may be of the first inputs only."""
    pairs = zip(tokens, reference, strict=False)
    leading = [next(_differing(ours, theirs)) for ours, theirs in pairs]
    return {
        "leading": statistics.mean(leading),
        "of": len(reference[0]),
        "begin": statistics.mean(n >= 4 for n in leading),
    }


def _differing(ours: Ids, theirs: Ids) -> Iterator[int]:
    """Where they differ; last, the length of the shorter."""
    yield from (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    yield min(len(ours), len(theirs))
