"""All cases of parity, group by group."""

from __future__ import annotations

from .decoders import DECODERS
from .encoders import ENCODERS
from .seq2seq import SEQ2SEQ

CASES = (*DECODERS, *ENCODERS, *SEQ2SEQ)
