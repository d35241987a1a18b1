"""A settings file with any one value damaged: an error that can be shown, or a config."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from lmstack.core import LmstackError
from lmstack.model import load_module
from lmstack.model.families import config_from_json, config_to_json

from .all_cases import CASES

_JUNK = (0, -1, 10**30, 1.5, float("nan"), "x", [], {"a": 1}, True)
_FIRST = {case.family: case for case in reversed(CASES)}


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("family", _FIRST)
def test_a_damaged_value_is_an_error_of_ours_or_none(family, every):
    """Families share most of their keys, so a sixth of the junk meets each key in one of them."""
    case = _FIRST[family]
    whole = case.config("plain").to_dict() | {"architectures": [case.architecture]}
    first = list(_FIRST).index(family) % every
    for key in whole:
        for value in _JUNK[first::every]:
            with contextlib.suppress(LmstackError):
                # Nor may looking for a family that can write it stumble over odd settings.
                config_to_json(config_from_json(whole | {key: value}))


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("T5", "num_layers", 10**9),  # of the encoder: each would be made before weights are missed
        ("T5", "num_layers", 60_000),
        ("LLaMA", "num_hidden_layers", 60_000),
        ("LLaMA", "num_attention_heads", 10**9),
        ("ModernBERT", "hidden_size", 10**9),  # more bytes than torch can count, without memory
        ("Mixtral", "num_local_experts", 10**9),  # a view of each would be made
        ("Mixtral", "num_local_experts", 0),
        ("ALBERT", "embedding_size", -1),
        ("ALBERT", "embedding_size", 10**29),
        ("DeBERTa-v3", "pos_att_type", [[]]),
    ],
)
def test_a_size_that_no_file_can_hold_costs_neither_memory_nor_time(family, key, value, tmp_path):
    _FIRST[family].theirs("plain").save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    began = time.process_time()
    with pytest.raises(LmstackError):
        load_module(tmp_path)
    assert time.process_time() - began < 2
