"""Layouts of stored tensors: reading undoes writing, and a table that reads also writes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmstack.model.formats import layouts
from lmstack.model.formats.layouts import HeadCounts, TensorPart, pieces

HEADS = HeadCounts(num_heads=4, num_kv_heads=2, head_dim=6)
FUSED = ("ROWS", "TRANSPOSED", "QKV_BY_HEAD", "PAIRED", "PLUS_ONE")


@pytest.mark.parametrize("name", FUSED)
@given(heads=st.integers(1, 4), half=st.integers(1, 4), width=st.integers(1, 5))
def test_what_is_written_is_read_back_and_has_the_shape_it_says(name, heads, half, width):
    layout = getattr(layouts, name)
    ours = torch.arange(3.0 * heads * 2 * half * width).view(3 * heads * 2 * half, width)
    stored = layout.write(ours, 2 * half)
    assert tuple(stored.shape) == layout.shape(tuple(ours.shape))
    assert torch.equal(layout.read(stored, 2 * half), ours)


def test_rows_of_gpt_neox_are_grouped_by_head_and_ours_by_kind():
    stored = torch.tensor([[h, kind, c] for h in range(2) for kind in range(3) for c in range(4)])
    ours = layouts.QKV_BY_HEAD.read(stored, 4)
    assert ours[:, 1].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert ours[:8, 0].tolist() == [0] * 4 + [1] * 4


def test_a_bias_is_not_transposed():
    assert torch.equal(layouts.TRANSPOSED.read(torch.arange(3), 1), torch.arange(3))


def test_queries_keys_and_values_of_a_fused_projection_have_their_own_sizes():
    table = {"blocks.{i}.attention.qkv": ("l.{i}.q", "l.{i}.k", "l.{i}.v")}
    found = pieces("blocks.11.attention.qkv.bias", torch.empty(48), table, HEADS)
    assert [(p.name, p.shape) for p in found] == [
        ("l.11.q.bias", (24,)),
        ("l.11.k.bias", (12,)),
        ("l.11.v.bias", (12,)),
    ]


def test_each_expert_has_its_own_gate_and_up():
    table = {"blocks.{i}.mlp.experts_up": ("l.{i}.{e}.w1", "l.{i}.{e}.w3")}
    ours = torch.arange(2 * 6 * 5).view(2, 6, 5)
    found = {p.name: p.view for p in pieces("blocks.0.mlp.experts_up", ours, table, HEADS)}
    assert list(found) == ["l.0.0.w1", "l.0.0.w3", "l.0.1.w1", "l.0.1.w3"]
    assert torch.equal(found["l.0.1.w3"], ours[1, 3:])


def test_stacked_experts_are_split_within_each_expert():
    table = {"blocks.{i}.mlp.experts_up": ("gate.{i}", "up.{i}")}
    ours = torch.arange(2 * 6 * 5).view(2, 6, 5)
    gate, up = pieces("blocks.3.mlp.experts_up", ours, table, HEADS)
    assert torch.equal(gate.view, ours[:, :3])
    assert torch.equal(up.view, ours[:, 3:])


def test_a_key_of_a_parameter_gives_the_whole_stored_name():
    table = {
        "head_bias": "lm_head",
        "head_bias.bias": TensorPart("final_logits_bias", layouts.ROW_VECTOR),
    }
    (piece,) = pieces("head_bias.bias", torch.empty(9), table, HEADS)
    assert (piece.name, piece.shape) == ("final_logits_bias", (1, 9))
