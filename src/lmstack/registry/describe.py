"""What the files of a model say about it (kind, architecture, size, licence), and its card.

Reads headers and configuration only. Does not build anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmstack.core import FormatError
from lmstack.core.files import store_error
from lmstack.registry.card import CARD, Card, FileFacts, Kind, content_digest, file_hash
from lmstack.registry.lineage import Training
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.registry.selection import CONVERT, EXPORTED, PICKLES
from lmstack.text.files import json_file

__all__ = ["ADAPTER_CONFIG", "ModelFacts", "Origin", "describe", "make_card"]

ADAPTER_CONFIG = "adapter_config.json"  # as PEFT names it

# How names of architectures end in transformers. Of one label or several: see `_kind`.
_KINDS: Mapping[str, Kind] = {
    "ForCausalLM": "generate",
    "WithLMHeadModel": "seq2seq",
    "LMHeadModel": "generate",
    "ForConditionalGeneration": "seq2seq",
    "MTModel": "seq2seq",
    "ForMaskedLM": "fill-mask",
    "ElectraForPreTraining": "embed",
    "ForPreTraining": "fill-mask",
    "ForSequenceClassification": "rerank",
    "ForTokenClassification": "token-classify",
    "ForQuestionAnswering": "question-answering",
}
_ENCODER_DECODERS = ("t5", "mt5", "bart", "mbart", "marian", "pegasus", "m2m_100", "umt5")
_FRONT_LICENCE = re.compile(r"^license:\s*(\S[^\n]*)$", re.MULTILINE)


@dataclass(frozen=True)
class ModelFacts:
    kind: Kind
    architecture: str
    parameters: int
    licence: str


def describe(path: Path) -> ModelFacts:
    """Facts of a model folder or ``.gguf`` file; an error says what is missing or damaged."""
    if path.is_file():
        if path.suffix == ".onnx":
            raise FormatError(f"{path} is ONNX", hint=EXPORTED.format(path=path))
        return _gguf(path)
    ggufs = sorted(path.glob("*.gguf"))
    weights = sorted(path.glob("*.safetensors"))
    if weights and (path / ADAPTER_CONFIG).is_file():
        parameters = sum(_safetensors_parameters(file) for file in weights)
        return ModelFacts("adapter", "lora", parameters, _readme_licence(path / "README.md"))
    if weights:
        return _folder(path, weights)
    if len(ggufs) == 1:
        return _gguf(ggufs[0])
    if ggufs:
        names = ", ".join(file.name for file in ggufs)
        raise FormatError(f"{path} has several GGUF files: {names}", hint="name one of them")
    if graphs := sorted((*path.glob("*.onnx"), *path.glob("onnx/*.onnx"))):
        raise FormatError(f"{graphs[0]} is ONNX", hint=EXPORTED.format(path=path))
    pickles = sorted(file for file in path.glob("*") if file.suffix in PICKLES)
    if pickles:
        raise FormatError(f"{path} has its weights in {pickles[0].name}, a pickle", hint=CONVERT)
    raise FormatError(
        f"{path} has no weights (*.safetensors, *.gguf or *.onnx)",
        hint="give the folder that holds them, or a .gguf file",
    )


def _folder(path: Path, weights: list[Path]) -> ModelFacts:
    config = json_file(path / "config.json")
    return ModelFacts(
        kind=_kind(config, path),
        architecture=str(config.get("model_type", "")),
        parameters=sum(_safetensors_parameters(file) for file in weights),
        licence=_readme_licence(path / "README.md"),
    )


def _kind(config: Mapping[str, Any], path: Path) -> Kind:
    """By the architecture's name; a bare model is an embedder."""
    names = config.get("architectures") or [""]
    name = str(names[0]) if isinstance(names, list) and names else ""
    found: Kind = next((k for ending, k in _KINDS.items() if name.endswith(ending)), "embed")
    if found == "rerank":
        labels = config.get("id2label")
        count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
        if count != 1:
            return "classify"
        # One score is how cross-encoders and reward models are written. These read conversations,
        # and those of sentence-transformers, which may be made of a chat model, say what they are.
        is_reward = _has_template(path) and "sentence_transformers" not in config
        return "reward" if is_reward else "rerank"
    if found == "seq2seq" and not config.get("is_encoder_decoder", "Conditional" not in name):
        # Models of text and images call themselves so, too.
        found = "seq2seq" if config.get("model_type") in _ENCODER_DECODERS else "generate"
    if found in ("embed", "generate") and (path / "modules.json").exists():
        settings = path / "config_sentence_transformers.json"
        late = settings.is_file() and "query_length" in json_file(settings)
        return "late-interaction" if late else "embed"
    return found


def _has_template(path: Path) -> bool:
    settings = path / "tokenizer_config.json"
    return (path / "chat_template.jinja").is_file() or (
        settings.is_file() and bool(json_file(settings).get("chat_template"))
    )


def _gguf(path: Path) -> ModelFacts:
    # Imported here: listing models must not wait for torch.
    from lmstack.model import read_gguf

    with read_gguf(path) as file:
        metadata: Mapping[str, Any] = file.metadata
        parameters = sum(math.prod(file.shape(name)) for name in file.names())
    architecture = str(metadata.get("general.architecture", ""))
    return ModelFacts(
        kind=_gguf_kind(architecture),
        architecture=architecture,
        parameters=parameters,
        licence=str(metadata.get("general.license", "")),
    )


def _gguf_kind(architecture: str) -> Kind:
    if "bert" in architecture:
        return "embed"
    return "seq2seq" if architecture == "t5" else "generate"


def _safetensors_parameters(path: Path) -> int:
    """From the header, which the library compares with the size of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            stated = (file.metadata() or {}).get("parameters")  # of weights that share bytes
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        return sum(map(math.prod, shapes)) if stated is None else int(stated)
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            f"{path} is not a complete safetensors file: {error}",
            hint="it is cut or damaged: get the model again",
        ) from error


def _readme_licence(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:10_000]
    except OSError:
        return ""
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    match = _FRONT_LICENCE.search(front)
    return match[1].strip().strip("'\"") if match else ""


@dataclass(frozen=True)
class Origin:
    """What a source says about the files it gave."""

    source: str
    licence: str = ""
    lineage: str = ""
    kind: Kind | None = None
    notes: tuple[str, ...] = ()
    weights_licence: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    training: Training | None = None


def make_card(name: str, staged: Path, origin: Origin) -> Card:
    """The card of the files in ``staged``, which are read in full."""
    facts = describe(staged)
    files = {
        path.relative_to(staged).as_posix(): FileFacts(
            sha256=file_hash(path), size=path.stat().st_size
        )
        for path in sorted(staged.rglob("*"))
        if path.is_file() and path.name != CARD
    }
    return Card(
        name=name,
        kind=origin.kind or facts.kind,
        digest=content_digest(files),
        licence=origin.weights_licence or _stated_licence(origin.licence, facts.licence),
        source=origin.source,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=origin.lineage,
        architecture=facts.architecture,
        parameters=facts.parameters,
        notes=origin.notes,
        evaluation=origin.evaluation,
        sampling=origin.sampling,
        training=origin.training,
    )


def _stated_licence(package: str, files: str) -> str:
    if package.lower() == files.lower():
        return f"{package} (stated by the package and by the model's files)" if package else ""
    stated = ((package, "package"), (files, "model's files"))
    return "; ".join(f"{text} (stated by the {where})" for text, where in stated if text)
