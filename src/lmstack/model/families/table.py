"""All families, and from a config.json to the fields of our config and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.families.albert import ALBERT_FAMILIES
from lmstack.model.families.bart import BART_FAMILIES
from lmstack.model.families.bert import BERT_FAMILIES
from lmstack.model.families.deberta import DEBERTA_FAMILIES
from lmstack.model.families.distilbert import DISTILBERT_FAMILIES
from lmstack.model.families.family import Family
from lmstack.model.families.gemma import GEMMA_FAMILIES
from lmstack.model.families.gpt import GPT_FAMILIES
from lmstack.model.families.llama import LLAMA_FAMILIES
from lmstack.model.families.modernbert import MODERNBERT_FAMILIES
from lmstack.model.families.mpnet import MPNET_FAMILIES
from lmstack.model.families.t5 import T5_FAMILIES
from lmstack.model.fields import Fields

__all__ = ["FAMILIES", "decoder_start", "family_of", "read_config", "writings"]

# In the order in which a family is looked for that can write a config.
FAMILIES = (
    *LLAMA_FAMILIES,
    *GEMMA_FAMILIES,
    *GPT_FAMILIES,
    *BERT_FAMILIES,
    *DISTILBERT_FAMILIES,
    *ALBERT_FAMILIES,
    *MPNET_FAMILIES,
    *DEBERTA_FAMILIES,
    *MODERNBERT_FAMILIES,
    *T5_FAMILIES,
    *BART_FAMILIES,
)
_LABELLED = ("sequence", "token")


def family_of(values: Mapping[str, Any], source: str = "config.json") -> Family:
    """The family of a parsed config.json; `UnsupportedError` names what is not known."""
    model_type = Fields(values, source).text("model_type")
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(f.model_type for f in FAMILIES)
    raise UnsupportedError(
        f"{source}: model type {shown(model_type)} is not implemented",
        hint=f"implemented: {known}",
    )


def decoder_start(values: Mapping[str, Any]) -> int | None:
    """`Family.decoder_start` of a parsed config.json, None where its family is not known."""
    starts = {family.model_type: family.decoder_start for family in FAMILIES}
    return starts.get(str(values.get("model_type")))


def _head(family: Family, fields: Fields) -> Mapping[str, Any]:
    names = fields.get("architectures") or [next(iter(family.heads))]
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise FormatError(f"{fields.source}: architectures is {shown(names)}, not a list of names")
    if names[0] not in family.heads:
        raise UnsupportedError(
            f"{fields.source}: architecture {shown(names[0])} is not implemented",
            hint=f"implemented for this type: {', '.join(family.heads)}",
        )
    return family.heads[names[0]]


def _labels(fields: Fields, default: int) -> int:
    names = fields.nested("id2label")
    return fields.count("num_labels", len(names) if names else default)


def read_config(values: Mapping[str, Any], source: str = "config.json") -> dict[str, Any]:
    """The fields of a `TransformerConfig` from a parsed config.json.

    Raises `FormatError` where it is damaged, `UnsupportedError` where it asks for what is not
    implemented.
    """
    family, fields = family_of(values, source), Fields(values, source)
    if fields.get("quantization_config") is not None:
        raise UnsupportedError(
            f"{source}: weights quantized by another library",
            hint="use the unquantized model or a GGUF file",
        )
    read = family.read(fields)
    # A family's read may give the number of labels that its configs default to.
    labels = _labels(fields, read.pop("num_labels", 2))
    read |= _head(family, fields)
    if read["head"] != "lm":
        read["tie_embeddings"] = False
    return {"num_labels": labels if read["head"] in _LABELLED else 0} | read


def writings(
    config: Mapping[str, Any], first: str | None = None
) -> Iterator[tuple[Family, dict[str, Any]]]:
    """Each family that might write a config of these fields, with its config.json; the family
    of model type ``first`` before the others.

    Families write what they have words for; whether that is all of ``config`` shows when it is
    read back.
    """
    for family in sorted(FAMILIES, key=lambda family: family.model_type != first):
        for architecture, sets in family.heads.items():
            loses_head = family.optional_head and config["head"] == "none"
            if loses_head or all(config[name] == value for name, value in sets.items()):
                names = {"architectures": [architecture], "model_type": family.model_type}
                yield family, names | family.write(config) | _written_labels(config)


def _written_labels(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["head"] not in _LABELLED:
        return {}
    names = {str(i): f"LABEL_{i}" for i in range(config["num_labels"])}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
