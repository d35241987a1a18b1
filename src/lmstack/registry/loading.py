"""A model folder as objects: module, tokenizer, chat template, defaults.

Covers Hugging Face, sentence-transformers and GGUF layouts alike. Does not cover running them:
that is the engine's and the embedder's part.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError, LmstackError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import write_atomic
from lmstack.registry.card import CARD, Kind, ModelFolder
from lmstack.registry.defaults import (
    GenerationDefaults,
    LateInteraction,
    Pooling,
    generation_defaults,
    labels_of,
    late_interaction,
    pooling_of,
)
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.registry.saving import write_settings
from lmstack.registry.sources.known import Traits, traits_of
from lmstack.registry.sources.local import content
from lmstack.registry.store import Store
from lmstack.registry.weight_cache import load_form, requested_form, served_digest, stored_form
from lmstack.text import ChatTemplate, Tokenizer
from lmstack.text.files import json_file, text_file

if TYPE_CHECKING:
    import torch

    from lmstack.model import Form, Transformer

log = logging.getLogger("lmstack.registry")

__all__ = ["LoadedModel", "ModelText", "load", "load_text"]

# Of config.json, what the architecture does not say and another program must know.
_KEPT = (
    "model_type", "id2label", "label2id", "problem_type", "pad_token_id", "decoder_start_token_id",
    "is_encoder_decoder", "forced_bos_token_id", "forced_eos_token_id", "task_specific_params",
)  # fmt: skip
_LABELLED = ("classify", "rerank", "reward", "token-classify")


@dataclass(frozen=True)
class LoadedModel:
    """``template`` is None for a model without one, ``pooling`` for one that does not embed,
    ``late`` for all but late interaction, and ``digest`` for one that was made in memory and is
    not on disk. ``labels``: of a classifier, by index. ``config``: config.json as it is, empty
    for GGUF. ``form``: of the weights; ``digest`` names it too where it is not that of the files.
    ``traits``: what its files do not say. ``parameters``: how many its files state, 0 where they
    state none.
    The folder of a bare module may lack a tokenizer; using it is then an error."""

    name: str
    digest: str | None
    module: Transformer
    tokenizer: Tokenizer
    template: ChatTemplate | None
    generation: GenerationDefaults
    pooling: Pooling | None = None
    kind: Kind = "generate"
    labels: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    late: LateInteraction | None = None
    form: Form = "float32"
    traits: Traits = field(default_factory=Traits)
    parameters: int = 0

    @property
    def has_tokenizer(self) -> bool:
        return not isinstance(self.tokenizer, _NoTokenizer)

    def generate(self, *_: Any, **__: Any) -> str:
        """What a language model has; this one cannot, and says what it can."""
        if self.kind in ("generate", "seq2seq"):
            self.tokenizer.encode("")  # says what is missing
        raise UnsupportedError(
            f"{self.name} is of kind {self.kind!r} and does not generate text",
            hint="lmstack.task(NAME, model) runs what it is for",
        )

    def save(self, folder: str | Path) -> None:
        """Write a folder that transformers loads: config, weights, tokenizer, template, and how
        the model is to be used. Quantized weights are written as the floats they stand for."""
        from lmstack.model import write_folder

        path = Path(folder)
        write_folder(self.module, path, self._extra(), self.config)
        self._save_rest(path)

    def save_quantized(self, folder: str | Path) -> None:
        """Write a folder that lmstack loads in this form, which must be a quantized one. It is
        none for transformers."""
        from lmstack.model.formats.mapped.folder import write_quantized_folder
        from lmstack.model.quant.matrix import held_weights

        path = Path(folder)
        weights = held_weights(self.module)
        write_quantized_folder(path, self.module.config, weights, self.form, self._extra())
        self._save_rest(path)

    def _extra(self) -> dict[str, Any]:
        """What config.json says beside the architecture."""
        eos_ids = sorted(self.generation.eos_ids)
        ids = () if self.has_tokenizer else ("eos_token_id", "bos_token_id")
        extra = {key: self.config[key] for key in (*_KEPT, *ids) if key in self.config}
        # None says something where a family has another default: no forced token, for one.
        extra = {k: v for k, v in extra.items() if v is not None or k.endswith("_token_id")}
        if self.has_tokenizer:
            found = {"eos_token_id": eos_ids, "bos_token_id": self.tokenizer.bos_id}
            found |= {key: self.config[key] for key in found if self.config.get(key) is not None}
            extra |= {key: value for key, value in found.items() if value not in (None, [])}
        return extra

    def _save_rest(self, path: Path) -> None:
        if self.has_tokenizer:
            self.tokenizer.save(path)
        if self.template is not None:
            write_atomic(path / "chat_template.jinja", self.template.source.encode())
        width = self.module.config.hidden_size
        write_settings(path, self.generation, self.pooling, self.late, width)


class _NoTokenizer(Tokenizer):
    """Stands for that of a folder without one: every use says so."""

    def __init__(self, path: Path) -> None:
        self._path, self._config = path, {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotFoundError(
            f"{self._path} has no tokenizer.json",
            hint="copy the model's tokenizer.json beside its weights",
        )


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
    path, gguf, name, stated, traits = _place(ref, store)
    metadata: Mapping[str, Any] = {}
    if gguf is not None:
        from lmstack.model import read_gguf

        with read_gguf(gguf) as file:
            metadata = file.metadata
    tokenizer = _tokenizer(path, metadata)
    generation = generation_defaults(path, _config(path), metadata, tokenizer)
    return ModelText(
        name=name,
        tokenizer=tokenizer,
        template=_template(path, metadata, tokenizer, traits),
        generation=replace(generation, sampling=stated.over(generation.sampling)),
        sources=_sources(path, metadata, tokenizer),
    )


def _place(
    ref: str | os.PathLike[str] | ModelFolder, store: Store
) -> tuple[Path, Path | None, str, SamplingDefaults, Traits]:
    """Folder, GGUF file if it is one, name, what its card says of sampling, and traits, of what
    ``ref`` names, with weights or without."""
    try:
        folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
    except FormatError:
        if isinstance(ref, ModelFolder) or not Path(ref).is_dir():
            raise
        return Path(ref), None, Path(ref).resolve().name, SamplingDefaults(), Traits()
    return folder.path, folder.gguf, folder.name, folder.card.sampling, traits_of(folder)


def load(
    ref: str | os.PathLike[str] | ModelFolder,
    store: Store | None = None,
    dtype: torch.dtype | None = None,
    *,
    weights: str | None = None,
) -> LoadedModel:
    """Load what ``ref`` names (no network). Bytes that are not those of the card are an
    `IntegrityError`: a model is named by its digest in every answer.

    ``weights``: the form that they are brought to (`lmstack.model.forms`): float32, bfloat16,
    float16, int8, q4, nf4, or file for the blocks of a GGUF file; unless given, that of a folder
    that holds a quantized form already, else float32. Quantized forms are kept in the store for
    the next start. ``dtype``: another way to name a float form.

    Each file is opened once for its hash and for use, and those of the card alone are seen."""
    store = store or Store()
    folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
    form = requested_form(weights, dtype)
    _note_others(folder)
    with folder.held() as held:
        held.verify(store.hashes.sha256)
        return _loaded(held, folder.path, form, store)


def _note_others(folder: ModelFolder) -> None:
    """Say what a folder holds beside the files of its card, where a model would be read from it."""
    if folder.path.is_dir():
        with contextlib.suppress(LmstackError):
            for name in sorted({*content(folder.path)} - {*folder.card.files, CARD}):
                log.warning(
                    "%s holds %s, which is not of the model that was made there and is not read",
                    folder.path,
                    shown(name),
                )


def _loaded(folder: ModelFolder, place: Path, form: Form | None, store: Store) -> LoadedModel:
    """``folder`` was verified. ``place``: where it lies, for messages."""
    path, kind, config = folder.path, folder.kind, _config(folder.path)
    own = stored_form(folder)
    form = form or own or "float32"

    def read_text() -> ModelText | None:
        try:
            return load_text(folder, store)
        except NotFoundError:
            return None

    # A large vocabulary takes as long to build as kept weights to verify.
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_text)

        def tokenizer() -> Tokenizer | None:
            found = reading.result()
            return None if found is None else found.tokenizer

        module = load_form(folder, form, store.root, tokenizer)
        text = reading.result()
    if text is None:
        bare = _NoTokenizer(place)
        text = ModelText(folder.name, bare, None, GenerationDefaults(frozenset()), {})
    late = late_interaction(path) if kind == "late-interaction" else None
    if late is not None:
        _check_projection(late, module.config.hidden_size, path)
    return LoadedModel(
        name=folder.name,
        digest=served_digest(folder, form, own),
        module=module,
        tokenizer=text.tokenizer,
        template=text.template,
        generation=text.generation,
        pooling=pooling_of(path, text.tokenizer) if kind == "embed" else None,
        kind=kind,
        labels=labels_of(config, path) if kind in _LABELLED else (),
        config=config,
        late=late,
        form=form,
        traits=traits_of(folder),
        parameters=folder.card.parameters,
    )


def _check_projection(late: LateInteraction, width: int, path: Path) -> None:
    if late.projection is None:
        return
    shape = tuple(late.projection.shape)
    if len(shape) != 2 or shape[1] != width or not late.projection.is_floating_point():
        raise FormatError(
            f"{path}: the projection of its tokens has shape {shape} and"
            f" {late.projection.dtype}, its model is {width} wide",
            hint="get the model again, complete",
        )


def _config(path: Path) -> Mapping[str, Any]:
    return json_file(path / "config.json") if (path / "config.json").is_file() else {}


def _tokenizer(path: Path, metadata: Mapping[str, Any]) -> Tokenizer:
    if metadata and not (path / "tokenizer.json").exists():
        return Tokenizer.from_gguf(metadata)
    return Tokenizer.from_folder(path)


def _template(
    path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer, traits: Traits
) -> ChatTemplate | None:
    sources = _sources(path, metadata, tokenizer)
    if not sources:
        return None
    source = next(iter(sources.values()))
    return ChatTemplate(
        source,
        tokenizer.name_of("bos_token"),
        tokenizer.name_of("eos_token"),
        plain_results=traits.plain_results,
    )


def _sources(path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, str]:
    """Chat templates by where they stand, in the order in which they count."""
    found: dict[str, Any] = {
        "chat_template.jinja": text_file(path / "chat_template.jinja"),
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
