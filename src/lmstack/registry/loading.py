"""A model folder as objects: module, tokenizer, chat template, defaults.

Covers Hugging Face, sentence-transformers and GGUF layouts alike. Does not cover running them:
that is the engine's and the embedder's part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.registry.card import ModelFolder
from lmstack.registry.describe import json_file
from lmstack.registry.home import store_error
from lmstack.registry.store import Store
from lmstack.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    import torch

    from lmstack.model import Ops, Transformer

__all__ = ["GenerationDefaults", "LoadedModel", "ModelText", "Pooling", "load", "load_text"]

# Ends of a turn under the names that chat models give them; a model may list only one in its
# configuration and still be trained to stop at the other.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|eom_id|>")
_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}
PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "last"]


@dataclass(frozen=True)
class GenerationDefaults:
    """What the model's makers recommend. ``eos_ids``: every token that ends a turn. None: they
    do not say."""

    eos_ids: frozenset[int]
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True)
class Pooling:
    """How hidden states become one vector. ``max_length``: tokens, added ones included, None if
    only the model's positions limit it. ``prompts``: prefixes by use (``query``...)."""

    mode: PoolingMode
    normalize: bool
    max_length: int | None
    prompts: Mapping[str, str]


@dataclass(frozen=True)
class LoadedModel:
    """``template`` is None for a model without one, ``pooling`` for one that generates, and
    ``digest`` for one that was made in memory and is not on disk."""

    name: str
    digest: str | None
    module: Transformer
    tokenizer: Tokenizer
    template: ChatTemplate | None
    generation: GenerationDefaults
    pooling: Pooling | None = None

    def save(self, folder: str | Path) -> None:
        """Write a folder that transformers loads: config, weights, tokenizer, template."""
        from lmstack.model import write_folder

        path = Path(folder)
        eos_ids = sorted(self.generation.eos_ids)
        ids = {"eos_token_id": eos_ids, "bos_token_id": self.tokenizer.bos_id}
        write_folder(self.module, path, {k: v for k, v in ids.items() if v not in (None, [])})
        self.tokenizer.save(path)
        if self.template is not None:
            (path / "chat_template.jinja").write_text(self.template.source, encoding="utf-8")


@dataclass(frozen=True)
class ModelText:
    """What a model reads and writes text with, without its weights. ``sources``: the text of
    every chat template it carries, by the place that holds it; the first is the one in use."""

    name: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    generation: GenerationDefaults
    sources: Mapping[str, str]


def load_text(ref: str | os.PathLike[str] | ModelFolder, store: Store | None = None) -> ModelText:
    """The tokenizer, chat template and defaults of what ``ref`` names. A folder on disk needs
    no weights for that: it may be one that is still being made."""
    store = store or Store()
    if not isinstance(ref, ModelFolder) and (Path(ref) / "tokenizer.json").is_file():
        path, gguf = Path(ref), None
        name = path.resolve().name
    else:
        folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
        path, gguf, name = folder.path, folder.gguf, folder.name
    metadata: Mapping[str, Any] = {}
    if gguf is not None:
        from lmstack.model import read_gguf

        with read_gguf(gguf) as file:
            metadata = file.metadata
    tokenizer = _tokenizer(path, metadata)
    return ModelText(
        name=name,
        tokenizer=tokenizer,
        template=_template(path, metadata, tokenizer),
        generation=_generation(path, metadata, tokenizer),
        sources=_sources(path, metadata, tokenizer),
    )


def load(
    ref: str | os.PathLike[str] | ModelFolder,
    store: Store | None = None,
    dtype: torch.dtype | None = None,
    ops: Ops | None = None,
) -> LoadedModel:
    """Load what ``ref`` names (no network). Bytes that are not those of the card are an
    `IntegrityError`: a model is named by its digest in every answer. ``dtype``: of the weights,
    float32 unless given. ``ops``: what the module computes with, the reference unless given."""
    import torch

    from lmstack.model import REFERENCE_OPS, load_module

    store = store or Store()
    folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
    folder.verify(store.hashes.sha256)
    text = load_text(folder, store)
    return LoadedModel(
        name=folder.name,
        digest=folder.digest,
        module=load_module(folder.path, dtype or torch.float32, ops or REFERENCE_OPS),
        tokenizer=text.tokenizer,
        template=text.template,
        generation=text.generation,
        pooling=_pooling(folder.path, text.tokenizer) if folder.kind == "embed" else None,
    )


def _tokenizer(path: Path, metadata: Mapping[str, Any]) -> Tokenizer:
    if metadata and not (path / "tokenizer.json").exists():
        return Tokenizer.from_gguf(metadata)
    return Tokenizer.from_folder(path)


def _template(path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer) -> ChatTemplate | None:
    sources = _sources(path, metadata, tokenizer)
    if not sources:
        return None
    source = next(iter(sources.values()))
    return ChatTemplate(source, tokenizer.name_of("bos_token"), tokenizer.name_of("eos_token"))


def _sources(path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, str]:
    """Chat templates by where they stand, in the order in which they count."""
    found: dict[str, Any] = {
        "chat_template.jinja": _text(path / "chat_template.jinja"),
        "tokenizer_config.json": tokenizer.config.get("chat_template"),
        "the GGUF metadata": metadata.get("tokenizer.chat_template"),
    }
    sources = {}
    for place, source in found.items():
        if isinstance(source, list):
            # Several named templates: the plain one is called "default".
            entries = [entry for entry in source if isinstance(entry, Mapping)]
            source = next((e.get("template") for e in entries if e.get("name") == "default"), None)
        if not source:
            continue
        if not isinstance(source, str):
            raise FormatError(
                f"the chat template of {path} is {shown(source)}, not text",
                hint="get the model again, complete",
            )
        sources[place] = source
    return sources


def _generation(
    path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer
) -> GenerationDefaults:
    stated: Mapping[str, Any] = {}
    if path.is_dir() and (path / "generation_config.json").exists():
        stated = json_file(path / "generation_config.json")
    try:
        listed = stated.get("eos_token_id")
        ids = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_id}
        ids |= {metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")}
        ids |= {tokenizer.special_tokens.get(name) for name in _TURN_ENDS}
        return GenerationDefaults(
            eos_ids=frozenset(int(i) for i in ids if i is not None),
            temperature=_number(stated, "temperature"),
            top_p=_number(stated, "top_p"),
            top_k=None if stated.get("top_k") is None else int(stated["top_k"]),
            repetition_penalty=_number(stated, "repetition_penalty"),
        )
    except (TypeError, ValueError) as error:
        raise FormatError(
            f"{path / 'generation_config.json'} cannot be used: {error}",
            hint="get the model again, complete",
        ) from error


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    return None if value is None else float(value)


def _pooling(path: Path, tokenizer: Tokenizer) -> Pooling:
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
    limit = None
    if (path / "sentence_bert_config.json").is_file():
        limit = json_file(path / "sentence_bert_config.json").get("max_seq_length")
    if limit is None:
        limit = tokenizer.config.get("model_max_length")
    # transformers writes 1e30 for "no limit".
    usable = isinstance(limit, int | float) and 0 < limit < 1e9
    prompts: Any = None
    if (path / "config_sentence_transformers.json").is_file():
        prompts = json_file(path / "config_sentence_transformers.json").get("prompts")
    return Pooling(
        mode=mode,
        normalize=any(kind == "Normalize" for kind, _ in stages),
        max_length=int(limit) if usable and limit is not None else None,
        prompts={str(key): str(value) for key, value in prompts.items()}
        if isinstance(prompts, Mapping)
        else {},
    )


def _stages(path: Path) -> list[tuple[str, str]]:
    """(class name, folder) of each stage, in order."""
    text = _text(path)
    if text is None:
        return []
    try:
        entries = sorted(json.loads(text), key=lambda entry: entry["idx"])
        stages = [(str(e["type"]).rsplit(".", 1)[-1], str(e["path"])) for e in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(
            f"{path} is no list of stages", hint="get the model again, complete"
        ) from error
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
    modes = [mode for key, mode in _POOLING.items() if config.get(key)]
    named = config.get("pooling_mode")
    if isinstance(named, str):
        modes = [m for k, m in _POOLING.items() if named in (m, *_old_and_new_names(k))]
    if len(modes) != 1:
        raise UnsupportedError(
            f"{path} asks for the pooling {shown(modes or named)}",
            hint=f"supported: one of {', '.join(_POOLING.values())}",
        )
    result: PoolingMode = modes[0]  # type: ignore[assignment]
    return result


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text", hint="get the model again") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error
