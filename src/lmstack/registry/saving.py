"""What a model folder says about its own use, written as `defaults` reads it.

Pooling and late interaction as sentence-transformers and PyLate keep them, generation as
transformers does. Does not cover the weights, config.json and the tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmstack.core.files import write_atomic
from lmstack.registry.defaults import POOLING, GenerationDefaults, LateInteraction, Pooling
from lmstack.registry.sampling_defaults import SamplingDefaults

__all__ = ["write_settings"]

_MODULES = "sentence_transformers.models"
_DRAWING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
# Our name of a setting and its own in generation_config.json, where they differ.
_GENERATION = {
    "decoder_start_id": "decoder_start_token_id",
    "forced_bos_id": "forced_bos_token_id",
    "forced_eos_id": "forced_eos_token_id",
    "bad_words": "bad_words_ids",
}


def write_settings(
    folder: Path,
    generation: GenerationDefaults,
    pooling: Pooling | None,
    late: LateInteraction | None,
    hidden_size: int,
) -> None:
    """Beside a model that is in ``folder`` already."""
    files: dict[str, Any] = {}
    if stated := _generation(generation):
        files["generation_config.json"] = stated
    if pooling is not None:
        files |= _pooling(pooling, hidden_size)
    if late is not None:
        files |= _late(late)
        if late.projection is not None:
            _write_projection(folder / "1_Dense", late)
    for name, value in files.items():
        write_atomic(folder / name, (json.dumps(value, indent=2) + "\n").encode())


def _generation(generation: GenerationDefaults) -> dict[str, Any]:
    stated = dict(generation.stated)
    for name in GenerationDefaults.__dataclass_fields__:
        value = getattr(generation, name)
        if name not in ("eos_ids", "sampling", "stated") and value not in (None, ()):
            stated[_GENERATION.get(name, name)] = value
    stated |= _sampling(generation.sampling)
    if stated or generation.stated:
        stated.setdefault("eos_token_id", sorted(generation.eos_ids))
    return stated


def _sampling(sampling: SamplingDefaults) -> dict[str, Any]:
    """In transformers' names, which has one for not drawing at all."""
    stated = sampling.stated()
    if stated.get("temperature") == 0:
        stated = {k: v for k, v in stated.items() if k not in _DRAWING} | {"do_sample": False}
    if "max_tokens" in stated:
        stated["max_new_tokens"] = stated.pop("max_tokens")
    return stated


def _pooling(pooling: Pooling, hidden_size: int) -> dict[str, Any]:
    stages = [("", "Transformer"), ("1_Pooling", "Pooling")]
    stages += [("2_Normalize", "Normalize")] if pooling.normalize else []
    modes = {flag: mode == pooling.mode for flag, mode in POOLING.items()}
    files: dict[str, Any] = {
        "modules.json": _modules(stages),
        "1_Pooling/config.json": {"word_embedding_dimension": hidden_size, **modes},
        "config_sentence_transformers.json": {"prompts": dict(pooling.prompts)},
    }
    if pooling.max_length is not None:
        files["sentence_bert_config.json"] = {"max_seq_length": pooling.max_length}
    return files


def _late(late: LateInteraction) -> dict[str, Any]:
    dense = late.projection is not None
    return {
        "modules.json": _modules([("", "Transformer"), *([("1_Dense", "Dense")] if dense else [])]),
        "config_sentence_transformers.json": {
            "query_prefix": late.query_marker or "",
            "document_prefix": late.document_marker or "",
            "query_length": late.query_length,
            "document_length": late.document_length,
            "do_query_expansion": late.expands_queries,
            "attend_to_expansion_tokens": late.attends_to_expansion,
            "skiplist_words": list(late.skipped),
        },
    }


def _modules(stages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}.{kind}"}
        for index, (path, kind) in enumerate(stages)
    ]


def _write_projection(folder: Path, late: LateInteraction) -> None:
    from lmstack.model.formats.hf import write_tensors

    assert late.projection is not None
    size, hidden = late.projection.shape
    identity = "torch.nn.modules.linear.Identity"
    config = {"in_features": hidden, "out_features": size, "bias": False}
    write_tensors(folder / "model.safetensors", {"linear.weight": late.projection})
    data = json.dumps(config | {"activation_function": identity}).encode()
    write_atomic(folder / "config.json", data)
