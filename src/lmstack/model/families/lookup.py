"""All families, and from a config.json to the fields of our config and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.families.bert import BERT_FAMILIES
from lmstack.model.families.family import Family
from lmstack.model.families.llama import LLAMA_FAMILIES
from lmstack.model.fields import Fields

__all__ = ["FAMILIES", "family_of", "read_config", "writings"]

# In the order in which a family is looked for that can write a config.
FAMILIES = (*LLAMA_FAMILIES, *BERT_FAMILIES)


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
    read = family.read(fields) | dict(_head(family, fields))
    if read["head"] != "lm":
        read["tie_embeddings"] = False
    return read


def writings(config: Mapping[str, Any]) -> Iterator[tuple[Family, dict[str, Any]]]:
    """Each family that might write a config of these fields, with its config.json.

    Families write what they have words for; whether that is all of ``config`` shows when it is
    read back.
    """
    for family in FAMILIES:
        for architecture, sets in family.heads.items():
            loses_head = family.optional_head and config["head"] == "none"
            if loses_head or all(config[name] == value for name, value in sets.items()):
                names = {"architectures": [architecture], "model_type": family.model_type}
                yield family, names | family.write(config)
