"""Model families as Hugging Face writes them: config.json to our config and back, and the names
of tensors.

A `Family` is data and two small functions between plain mappings. Nothing downstream sees it:
what it yields is the fields of a `TransformerConfig` and tensors under our names. A
feature of a family that the config cannot express is refused by name, never ignored. One module
for each group of families that share tensor names; `lookup` lists them all.

Missing settings take the defaults of the config classes of transformers 5, because older files
leave out values equal to them. Sizes are never assumed.
"""

from lmstack.model.families.family import Family
from lmstack.model.families.table import (
    FAMILIES,
    decoder_start,
    family_of,
    read_config,
    writings,
)

__all__ = ["FAMILIES", "Family", "decoder_start", "family_of", "read_config", "writings"]
