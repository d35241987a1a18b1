"""All families, and from a config.json to a `TransformerConfig` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.families.bart import BART_FAMILIES
from lmstack.model.families.bert import BERT_FAMILIES
from lmstack.model.families.deberta import DEBERTA_FAMILIES
from lmstack.model.families.family import Family
from lmstack.model.families.gemma import GEMMA_FAMILIES
from lmstack.model.families.gpt import GPT_FAMILIES
from lmstack.model.families.llama import LLAMA_FAMILIES
from lmstack.model.families.modernbert import MODERNBERT_FAMILIES
from lmstack.model.families.t5 import T5_FAMILIES
from lmstack.model.fields import Fields

__all__ = [
    "FAMILIES",
    "config_from_json",
    "config_to_json",
    "decoder_start",
    "family_of",
    "with_head",
]

# In the order in which a family is looked for that can write a config.
FAMILIES = (
    *LLAMA_FAMILIES,
    *GEMMA_FAMILIES,
    *GPT_FAMILIES,
    *BERT_FAMILIES,
    *DEBERTA_FAMILIES,
    *MODERNBERT_FAMILIES,
    *T5_FAMILIES,
    *BART_FAMILIES,
)


def family_of(values: Mapping[str, Any], source: str = "config.json") -> Family:
    """The family of a parsed config.json; `UnsupportedError` names what is not known."""
    model_type = Fields(values, source).text("model_type")
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    raise UnsupportedError(
        f"{source}: model type {shown(model_type)} is not implemented",
        hint=f"implemented: {', '.join(f.model_type for f in FAMILIES)}",
    )


def decoder_start(values: Mapping[str, Any]) -> int | None:
    """`Family.decoder_start` of a parsed config.json, None where its family is not known."""
    starts = {family.model_type: family.decoder_start for family in FAMILIES}
    return starts.get(str(values.get("model_type")))


def config_from_json(values: Mapping[str, Any], source: str = "config.json") -> TransformerConfig:
    """From a parsed config.json. `FormatError`: damaged; `UnsupportedError`: it asks for what is
    not implemented. ``source`` names the file in messages."""
    family, fields = family_of(values, source), Fields(values, source)
    if fields.get("quantization_config") is not None:
        raise UnsupportedError(
            f"{source}: weights quantized by another library",
            hint="use the unquantized model or a GGUF file",
        )
    return family.config(fields)


def config_to_json(
    config: TransformerConfig, first: str | None = None
) -> tuple[Family, dict[str, Any]]:
    """A family and its config.json that says exactly ``config``. ``first``: the model type to try
    before the others, which need not be what the config came from: many families have configs
    that another has as well."""
    for family in sorted(FAMILIES, key=lambda family: family.model_type != first):
        written = family.config_json(config)
        if written is not None:
            return family, written
    raise UnsupportedError(
        "no Hugging Face family that lmstack writes has this combination of settings",
        hint=f"the settings: {vars(config)}",
    )


# What a config.json says of its own head.
_OF_THE_HEAD = ("num_labels", "id2label", "label2id", "problem_type", "architectures")


def with_head(values: Mapping[str, Any], head: str, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The config.json ``values`` with the class of its family that has ``head``, as transformers
    names it, and its ``labels``. `UnsupportedError` where the family has no such class."""
    family = family_of(values)
    # A bare model with a pooler is saved by the same class as one without.
    wanted = ("none", "pool") if head == "none" else (head,)
    names = [n for kind in wanted for n, sets in family.heads.items() if sets["head"] == kind]
    if not names:
        raise UnsupportedError(
            f"models of type {family.model_type!r} have no head {shown(head)}",
            hint=f"they have the classes {', '.join(family.heads)}; use another base",
            param="base",
        )
    kept = {key: value for key, value in values.items() if key not in _OF_THE_HEAD}
    kept["architectures"] = names[:1]
    if labels:
        kept["id2label"] = {str(index): name for index, name in enumerate(labels)}
        kept["label2id"] = {name: index for index, name in enumerate(labels)}
    return kept
