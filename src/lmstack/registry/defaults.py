"""What a model folder says about its own use: generation, labels, pooling, late interaction.

Reads the small JSON files beside the weights, in the spellings of transformers,
sentence-transformers and PyLate, old and new. Does not cover the network nor running it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.core import FormatError, InputError, TextKind, UnsupportedError, shown
from lmstack.core.files import store_error
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.text import Tokenizer
from lmstack.text.files import AGAIN, json_file, text_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "POOLING",
    "PROMPT_NAMES",
    "GenerationDefaults",
    "LateInteraction",
    "Pooling",
    "generation_defaults",
    "labels_of",
    "late_interaction",
    "pooling_of",
]

# Ends of a turn under the names that chat models give them; a model may list only one in its
# configuration and still be trained to stop at the other.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|eom_id|>")
POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}
# Names that models give to the prefix for each kind, as sentence-transformers looks for them.
PROMPT_NAMES: Mapping[TextKind, tuple[str, ...]] = {
    "query": ("query",),
    "passage": ("document", "passage", "corpus"),
}
_DRAWING = ("temperature", "top_p", "min_p", "typical_p")
_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
_GGUF = {
    **{"temp": "temperature", "penalty_repeat": "repetition_penalty"},
    **{name: name for name in ("top_p", "top_k", "min_p")},
}
PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "last"]


@dataclass(frozen=True)
class GenerationDefaults:
    """What the model's makers recommend. ``eos_ids``: every token that ends a turn. None or
    empty: they do not say.

    Of an encoder-decoder also: ``decoder_start_id`` begins every output, ``forced_bos_id`` and
    ``forced_eos_id`` must be its first token and, at ``max_length``, its last; ``bad_words`` are
    sequences of tokens that must not come out. ``stated``: generation_config.json as it is, with
    what is not ours to read.
    """

    eos_ids: frozenset[int]
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    decoder_start_id: int | None = None
    forced_bos_id: int | None = None
    forced_eos_id: int | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    no_repeat_ngram_size: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    stated: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Pooling:
    """How hidden states become one vector. ``max_length``: tokens, added ones included, None if
    only the model's positions limit it. ``prompts``: prefixes by use (``query``...)."""

    mode: PoolingMode
    normalize: bool
    max_length: int | None
    prompts: Mapping[str, str]

    def prompt(self, kind: TextKind) -> str:
        """The prefix of texts of ``kind``, empty where there is none."""
        return next((self.prompts[n] for n in PROMPT_NAMES[kind] if n in self.prompts), "")


@dataclass(frozen=True)
class LateInteraction:
    """How hidden states become one vector a token (ColBERT), which are then normalized.

    ``query_marker`` and ``document_marker`` are tokens put after the first; None for none. A
    query is filled up to ``query_length`` with mask tokens if ``expands_queries``, and other
    tokens look at those if ``attends_to_expansion``. Lengths count every token, added ones too.
    Documents keep no vector of a token in ``skipped``. ``projection``: (dimensions, hidden),
    None where hidden states are used as they are.
    """

    query_marker: str | None
    document_marker: str | None
    query_length: int
    document_length: int
    expands_queries: bool
    attends_to_expansion: bool
    skipped: tuple[str, ...]
    projection: Tensor | None


def generation_defaults(
    path: Path, config: Mapping[str, Any], metadata: Mapping[str, Any], tokenizer: Tokenizer
) -> GenerationDefaults:
    """``config``: of config.json, where older checkpoints keep what newer ones have in
    generation_config.json; ``metadata``: of a GGUF file."""
    stated, source = config, path / "config.json"
    if path.is_dir() and (path / "generation_config.json").exists():
        source = path / "generation_config.json"
        stated = json_file(source)
    try:
        decoder = not config.get("is_encoder_decoder")
        listed = stated.get("eos_token_id", config.get("eos_token_id"))
        ids = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_id}
        ids |= {metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")}
        ids |= {tokenizer.special_tokens.get(name) for name in _TURN_ENDS}
        return GenerationDefaults(
            eos_ids=frozenset(int(i) for i in ids if i is not None),
            # Not from config.json: transformers once wrote its own defaults there, chosen or not.
            sampling=_of_gguf(metadata) if stated is config else _sampling(stated, decoder=decoder),
            **({} if decoder else _sequences(stated, config)),
            stated={} if stated is config else stated,
        )
    except InputError as error:
        place = "the GGUF metadata" if stated is config else source
        raise FormatError(f"{place}: {error.message}", hint="correct it there") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f"the generation settings in {source} cannot be used: {error}", hint=AGAIN
        ) from error


def _sampling(stated: Mapping[str, Any], *, decoder: bool) -> SamplingDefaults:
    """In transformers' names. A model that does not sample is greedy, whatever temperature is
    stated beside. An encoder-decoder's other search settings are those of its tasks."""
    penalties: dict[str, Any] = {name: _number(stated, name) for name in _PENALTIES}
    drawing: dict[str, Any] = {"temperature": 0.0}
    if stated.get("do_sample") is not False:
        drawing = {name: _number(stated, name) for name in _DRAWING}
        drawing["top_k"] = _whole(stated, "top_k")
    return SamplingDefaults(
        **penalties,
        **drawing,
        no_repeat_ngram_size=_whole(stated, "no_repeat_ngram_size") if decoder else None,
        max_tokens=_whole(stated, "max_new_tokens"),
    )


def _of_gguf(metadata: Mapping[str, Any]) -> SamplingDefaults:
    """In llama.cpp's names."""
    found = {ours: metadata.get(f"general.sampling.{name}") for name, ours in _GGUF.items()}
    return SamplingDefaults.from_mapping(found)


def _sequences(stated: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Of an encoder-decoder. A decoder whose start is not stated begins as transformers has it:
    with the default of its family, with BOS, or, as T5, with padding, which is 0 there."""
    from lmstack.model.families import decoder_start

    starts = (
        _whole(stated, "decoder_start_token_id"),
        _whole(config, "decoder_start_token_id"),
        decoder_start(config),
        _whole(config, "bos_token_id"),
        _whole(config, "pad_token_id"),
    )
    start = next((token for token in starts if token is not None), 0)
    stopping = stated.get("early_stopping")
    if stopping not in (None, True, False, "never"):
        raise ValueError(f"early_stopping is {shown(stopping)}")
    words = stated.get("bad_words_ids") or ()
    return {
        "decoder_start_id": start,
        "forced_bos_id": _whole(stated, "forced_bos_token_id"),
        "forced_eos_id": _whole(stated, "forced_eos_token_id"),
        "bad_words": tuple(tuple(int(token) for token in word) for word in words),
        "num_beams": _whole(stated, "num_beams"),
        "length_penalty": _number(stated, "length_penalty"),
        "early_stopping": stopping,
        "no_repeat_ngram_size": _whole(stated, "no_repeat_ngram_size"),
        "min_length": _whole(stated, "min_length"),
        "max_length": _whole(stated, "max_length"),
    }


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    return None if value is None else float(value)


def _whole(values: Mapping[str, Any], key: str) -> int | None:
    value: Any = values.get(key)
    while isinstance(value, list):  # of several ends of the text, the first
        value = next(iter(value), None)
    return None if value is None else int(value)


def labels_of(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names of the labels of a classifier, by their index; as transformers, two if none are
    given."""
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", 2)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 1 << 20:
            raise FormatError(f"{path}: num_labels is {shown(count)}", hint=AGAIN)
        return tuple(f"LABEL_{index}" for index in range(count))
    try:
        numbered = {int(key): str(value) for key, value in named.items()}
    except (AttributeError, TypeError, ValueError):
        numbered = {}
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        raise FormatError(
            f"{path}: id2label is {shown(named)}, not names for 0 to N - 1", hint=AGAIN
        )
    return tuple(numbered[index] for index in range(len(numbered)))


def pooling_of(path: Path, tokenizer: Tokenizer) -> Pooling:
    """From sentence-transformers' ``modules.json``; a plain encoder is averaged, as they do."""
    stages = _stages(path / "modules.json")
    mode: PoolingMode = "mean"
    for kind, place in stages:
        if kind == "Pooling":
            mode = _mode(json_file(path / place / "config.json"), path / place)
        elif kind not in ("Transformer", "Normalize"):
            raise UnsupportedError(
                f"{path} has a stage {shown(kind)} after the transformer",
                hint="supported stages: Transformer, Pooling, Normalize",
            )
    prompts: Any = None
    if (path / "config_sentence_transformers.json").is_file():
        prompts = json_file(path / "config_sentence_transformers.json").get("prompts")
    return Pooling(
        mode=mode,
        normalize=any(kind == "Normalize" for kind, _ in stages),
        max_length=_max_length(path, tokenizer),
        prompts={str(key): str(value) for key, value in prompts.items()}
        if isinstance(prompts, Mapping)
        else {},
    )


def _max_length(path: Path, tokenizer: Tokenizer) -> int | None:
    limit = None
    if (path / "sentence_bert_config.json").is_file():
        limit = json_file(path / "sentence_bert_config.json").get("max_seq_length")
    if limit is None:
        limit = tokenizer.config.get("model_max_length")
    # transformers writes 1e30 for "no limit".
    usable = isinstance(limit, int | float) and 0 < limit < 1e9
    return int(limit) if usable and limit is not None else None


def late_interaction(path: Path) -> LateInteraction:
    """From PyLate's settings in ``config_sentence_transformers.json`` and its Dense stage."""
    stated = json_file(path / "config_sentence_transformers.json")
    projection = None
    for kind, place in _stages(path / "modules.json"):
        if kind == "Dense" and projection is None:
            projection = _projection(path / place)
        elif kind != "Transformer":
            raise UnsupportedError(
                f"{path} has a stage {shown(kind)} after the transformer",
                hint="supported stages of late interaction: Transformer, one Dense without bias",
            )
    try:
        return LateInteraction(
            query_marker=_marker(stated, "query_prefix"),
            document_marker=_marker(stated, "document_prefix"),
            query_length=_length(stated, "query_length", 32),
            document_length=_length(stated, "document_length", 180),
            expands_queries=bool(stated.get("do_query_expansion", True)),
            attends_to_expansion=bool(stated.get("attend_to_expansion_tokens")),
            skipped=tuple(str(word) for word in stated.get("skiplist_words") or ()),
            projection=projection,
        )
    except (TypeError, ValueError) as error:
        raise FormatError(
            f"the late interaction settings of {path} cannot be used: {error}", hint=AGAIN
        ) from error


def _marker(stated: Mapping[str, Any], key: str) -> str | None:
    return str(stated[key]).strip() or None if stated.get(key) else None


def _length(stated: Mapping[str, Any], key: str, default: int) -> int:
    value = stated.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 3 <= value <= 1 << 20:
        raise ValueError(f"{key} is {shown(value)}")
    return value


def _projection(path: Path) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    activation = str(json_file(path / "config.json").get("activation_function", "Identity"))
    try:
        tensors = load_file(path / "model.safetensors")
    except OSError as error:
        raise store_error(error, path / "model.safetensors", "reading") from error
    except SafetensorError as error:
        raise FormatError(f"{path} has no usable weights: {error}", hint=AGAIN) from error
    if set(tensors) != {"linear.weight"} or not activation.endswith("Identity"):
        raise UnsupportedError(
            f"{path} is not one matrix ({', '.join(sorted(tensors))}, {activation})",
            hint="supported: linear.weight without bias or activation",
        )
    return tensors["linear.weight"]


def _stages(path: Path) -> list[tuple[str, str]]:
    """(class name, folder) of each stage, in order."""
    text = text_file(path)
    if text is None:
        return []
    try:
        entries = sorted(json.loads(text), key=lambda entry: entry["idx"])
        stages = [(str(e["type"]).rsplit(".", 1)[-1], str(e["path"])) for e in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{path} does not list stages", hint=AGAIN) from error
    for _, place in stages:
        if place.startswith("/") or ".." in place.split("/"):
            raise FormatError(
                f"{path} points outside the model: {shown(place)}", hint="do not use this model"
            )
    return stages


def _old_and_new_names(flag: str) -> tuple[str, str]:
    """New configurations name a mode in full ("mean_sqrt_len_tokens") or shortly ("mean")."""
    name = flag.removeprefix("pooling_mode_")
    return name, name.removesuffix("_tokens").removesuffix("_token")


def _mode(config: Mapping[str, Any], path: Path) -> PoolingMode:
    modes = [mode for key, mode in POOLING.items() if config.get(key)]
    named = config.get("pooling_mode")
    if isinstance(named, str):
        modes = [m for k, m in POOLING.items() if named in (m, *_old_and_new_names(k))]
    if len(modes) != 1:
        raise UnsupportedError(
            f"{path} asks for the pooling {shown(modes or named)}",
            hint=f"supported: one of {', '.join(POOLING.values())}",
        )
    result: PoolingMode = modes[0]  # type: ignore[assignment]
    return result
