"""Model families as Hugging Face writes them: config.json to a `TransformerConfig` and back, and
the names of tensors.

A `Family` is data. Nothing downstream sees it: what it yields is a `TransformerConfig` and tensors
under our names. A feature of a family that the config cannot express is refused by name, never
ignored. One module for each group of families that share tensor names; `table` lists them all.

Missing settings take the defaults of the config classes of transformers 5, because older files
leave out values equal to them. Sizes are never assumed.
"""

from lmstack.model.families.family import Family
from lmstack.model.families.table import (
    FAMILIES,
    config_from_json,
    config_to_json,
    decoder_start,
    family_of,
    with_head,
)

__all__ = [
    "FAMILIES",
    "Family",
    "config_from_json",
    "config_to_json",
    "decoder_start",
    "family_of",
    "with_head",
]
