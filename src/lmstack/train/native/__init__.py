"""Native ops of training passes, for float32 on processors with AVX-512 VNNI: products of frozen
matrices in 8 bits with an adapter's terms beside them (by AMX tiles where there are such), what is
done to rows, attention of short sequences. Other processors have the same in torch (`frozen`,
`compute`, `short_attention`).

They run on the threads of torch, and what they compute does not depend on which thread takes what.
"""

from lmstack.train.native.attention import attended, takes_heads
from lmstack.train.native.library import available
from lmstack.train.native.products import PackedInt8, PackedInt8Gradient, takes
from lmstack.train.native.rows import gated, normed, rotated, takes_rotation, takes_rows

__all__ = [
    "PackedInt8",
    "PackedInt8Gradient",
    "attended",
    "available",
    "gated",
    "normed",
    "rotated",
    "takes",
    "takes_heads",
    "takes_rotation",
    "takes_rows",
]
