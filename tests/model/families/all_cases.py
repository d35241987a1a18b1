"""All cases of parity, group by group."""

from __future__ import annotations

from .decoders import DECODERS

CASES = (*DECODERS,)
