"""A settings file with any one value damaged: an error that can be shown, or a config."""

from __future__ import annotations

import contextlib

import pytest

from lmstack.core import LmstackError
from lmstack.model import TransformerConfig

from .all_cases import CASES

_JUNK = (0, -1, 10**30, 1.5, float("nan"), "x", [], {"a": 1}, True)
_FIRST = {case.family: case for case in reversed(CASES)}


@pytest.mark.parametrize("family", _FIRST)
def test_a_damaged_value_is_an_error_of_ours_or_none(family):
    case = _FIRST[family]
    whole = case.config("plain").to_dict() | {"architectures": [case.architecture]}
    for key in whole:
        for value in _JUNK:
            with contextlib.suppress(LmstackError):
                # Nor may looking for a family that can write it stumble over odd settings.
                TransformerConfig.from_hf(whole | {key: value}).to_hf()
