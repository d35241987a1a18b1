"""Attention over cache tiles: against float64, and bit by bit between ways to compute a query.

Legend: T tokens, H heads, K KV heads, C channels of a head.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.cpu.calls import Floats, same_bits

from lmstack.engine.cpu.library import native, tile_bytes
from lmstack.engine.cpu.mirrors import AttentionStruct, PathStruct

BF16, INT8 = 0, 1
MANY = settings(max_examples=25, deadline=None)
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """Queries, keys and values of one sequence, and how they attend."""

    head_dim: int
    kv_heads: int
    group: int
    tokens: int
    causal: bool
    window: int
    softcap: float
    reach: int  # of the bias; 0: none
    seed: int

    @property
    def heads(self) -> int:
        return self.kv_heads * self.group

    @property
    def scale(self) -> float:
        return float(np.float32(self.head_dim**-0.5))

    def drawn(self) -> tuple[Floats, Floats, Floats]:
        rng = np.random.default_rng(self.seed)
        shapes = [(self.tokens, n, self.head_dim) for n in (self.heads, *[self.kv_heads] * 2)]
        q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        return q * np.float32(rng.choice([0.1, 1, 4])), k, v

    def bias(self) -> Floats | None:
        if not self.reach:
            return None
        rng = np.random.default_rng(self.seed + 1)
        return rng.standard_normal((self.heads, 2 * self.reach + 1)).astype(np.float32)

    def struct(self, kv: int) -> tuple[AttentionStruct, Floats | None]:
        """The bias must outlive it."""
        bias = self.bias()
        where = None if bias is None else bias.ctypes.data
        numbers = (self.heads, self.kv_heads, self.head_dim, self.causal, self.window, kv)
        return AttentionStruct(*numbers, self.scale, self.softcap, where, self.reach), bias

    def exact(self, q: Floats, k: Floats, v: Floats) -> npt.NDArray[np.float64]:
        keys, values = (x.astype(np.float64).repeat(self.group, 1) for x in (k, v))
        scores = np.einsum("ihc,jhc->hij", q.astype(np.float64), keys) * self.scale
        if self.softcap:
            scores = np.tanh(scores / self.softcap) * self.softcap
        apart = np.arange(len(k)) - np.arange(len(q))[:, None]
        bias = self.bias()
        if bias is not None:
            scores += bias[:, np.clip(apart, -self.reach, self.reach) + self.reach]
        seen = (apart <= 0) | (not self.causal)
        seen &= (abs(apart) < self.window) | (not self.window)
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        found: npt.NDArray[np.float64] = np.einsum(
            "hij,jhc->ihc", weights / weights.sum(-1, keepdims=True), values
        )
        return found


cases = st.builds(
    Case,
    head_dim=st.sampled_from([8, 16, 24, 32, 64, 80, 96, 128, 256]),
    kv_heads=st.integers(1, 2),
    group=st.sampled_from([1, 2, 3, 4, 5, 7, 9]),
    tokens=st.integers(1, 150),
    causal=st.booleans(),
    window=st.sampled_from([0, 0, 1, 5, 16, 70]),
    softcap=st.sampled_from([0.0, 0.0, 5.0]),
    reach=st.sampled_from([0, 0, 3, 200]),
    seed=st.integers(0, 2**31),
)


def aligned(size: int, fill: int = 0) -> Bytes:
    held = np.full(size + 64, fill, np.uint8)
    start = -held.ctypes.data % 64
    return held[start : start + size]


@dataclass
class Cache:
    """Tiles of one layer in shuffled places; what is not stored holds ``garbage``."""

    case: Case
    kv: int
    path: PathStruct
    garbage: int = 0
    table: npt.NDArray[np.int32] = field(init=False)
    tiles: Bytes = field(init=False)

    def __post_init__(self) -> None:
        needed = -(-self.case.tokens // 16)
        self.table = np.random.default_rng(7).permutation(needed + 2)[:needed].astype(np.int32)
        self.tile = tile_bytes(self.case.head_dim, self.kv)
        self.tiles = aligned((needed + 2) * self.case.kv_heads * self.tile, self.garbage)

    def store(self, k: Floats, v: Floats) -> Cache:
        struct, _bias = self.case.struct(self.kv)
        for token in range(len(k)):
            for head in range(self.case.kv_heads):
                tile = int(self.table[token // 16]) * self.case.kv_heads + head
                at = self.tiles.ctypes.data + tile * self.tile
                rows = (np.ascontiguousarray(x[token, head]) for x in (k, v))
                key, value = rows
                self.path.store(struct, key.ctypes.data, value.ctypes.data, at, token % 16)
        return self

    def attend(self, q: Floats, position: int = 0, keys: int | None = None) -> Floats:
        case = self.case
        q = np.ascontiguousarray(q)
        out = np.full_like(q, np.nan)
        struct, _bias = case.struct(self.kv)
        scratch = aligned(native().lm_attend_scratch(ctypes.byref(struct)), 0xFF)
        apart = case.heads * case.head_dim
        for head in range(case.kv_heads):
            first = head * case.group * case.head_dim * 4
            self.path.attend(
                *(struct, self.tiles.ctypes.data, self.table.ctypes.data),
                *(case.tokens if keys is None else keys, position, len(q), head),
                *(q.ctypes.data + first, apart, out.ctypes.data + first, apart),
                scratch.ctypes.data,
            )
        return out


def chunks(tokens: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    start = 0
    while start < tokens:
        end = min(tokens, start + int(rng.choice([1, 2, 7, 30, 100])))
        yield start, end
        start = end


def as_bfloat16(x: Floats) -> Floats:
    found: Floats = torch.from_numpy(x).bfloat16().float().numpy()
    return found


@pytest.mark.parametrize(("kv", "within"), [(BF16, 0.008), (INT8, 0.08)])
@MANY
@given(case=cases)
def test_attention_is_near_that_of_float64(
    path: PathStruct, kv: int, within: float, case: Case
) -> None:
    q, k, v = case.drawn()
    found = Cache(case, kv, path).store(k, v).attend(q)
    if kv == BF16:
        wanted = case.exact(as_bfloat16(q) if path.name in (b"avx512", b"amx") else q,
                            as_bfloat16(k), as_bfloat16(v))  # fmt: skip
    else:
        wanted = case.exact(q, k, v)
    assert np.abs(found - wanted).max() <= within * np.abs(wanted).max()


@pytest.mark.parametrize("kv", [BF16, INT8])
@MANY
@given(case=cases)
def test_a_query_has_the_same_bits_in_any_chunk_and_beside_any_garbage(
    path: PathStruct, kv: int, case: Case
) -> None:
    """Uninitialised slots are bytes of ones: NaN in either form, and codes of -1."""
    q, k, v = case.drawn()
    whole = Cache(case, kv, path).store(k, v).attend(q)
    rng = np.random.default_rng(case.seed)
    for start, end in chunks(case.tokens, rng):
        seen = end if case.causal else case.tokens
        cache = Cache(case, kv, path, garbage=0xFF).store(k[:seen], v[:seen])
        keys = seen if rng.random() < 0.5 else case.tokens
        assert same_bits(cache.attend(q[start:end], start, keys), whole[start:end])


@pytest.mark.parametrize("kv", [BF16, INT8])
@MANY
@given(case=cases.filter(lambda case: case.causal and case.tokens > 1))
def test_later_tokens_that_are_not_numbers_spoil_no_earlier_one_of_their_chunk(
    path: PathStruct, kv: int, case: Case
) -> None:
    q, k, v = case.drawn()
    whole = Cache(case, kv, path).store(k, v).attend(q)
    half = case.tokens // 2
    k[half:], v[half:] = np.nan, np.inf
    found = Cache(case, kv, path).store(k, v).attend(q)
    assert same_bits(found[:half], whole[:half])
    assert not np.isfinite(found[half:]).any()


@MANY
@given(case=cases)
def test_int8_attention_has_the_same_bits_on_every_path(
    every: list[PathStruct], case: Case
) -> None:
    q, k, v = case.drawn()
    caches = [Cache(case, INT8, path).store(k, v) for path in every]
    results = [cache.attend(q) for cache in caches]
    assert all((cache.tiles == caches[0].tiles).all() for cache in caches)
    assert all(same_bits(found, results[0]) for found in results)


@MANY
@given(case=cases)
def test_bfloat16_tiles_hold_what_torch_rounds_to(path: PathStruct, case: Case) -> None:
    _q, k, v = case.drawn()
    cache = Cache(case, BF16, path).store(k, v)
    hd = -(-case.head_dim // 16) * 16
    tiles = cache.tiles.view(np.uint16).reshape(-1, case.kv_heads, 2, 16 * hd)[cache.table]
    keys = tiles[:, :, 0].reshape(len(tiles), -1, hd // 2, 16, 2).transpose(0, 3, 1, 2, 4)
    values = tiles[:, :, 1].reshape(len(tiles), -1, 8, hd, 2).transpose(0, 2, 4, 1, 3)
    for found, given_ in ((keys, k), (values, v)):
        stored = found.reshape(-1, case.kv_heads, hd)[: case.tokens, :, : case.head_dim]
        assert (stored == torch.from_numpy(given_).bfloat16().view(torch.uint16).numpy()).all()
        assert not found.reshape(-1, case.kv_heads, hd)[..., case.head_dim :].any()


@pytest.mark.parametrize("kv", [BF16, INT8])
def test_scores_that_rise_and_fall_by_hundreds_stay_exact(path: PathStruct, kv: int) -> None:
    """The best score moves in both directions between blocks, far beyond what an exponential
    of the difference holds."""
    case = Case(16, 1, 1, 300, False, 0, 0.0, 0, 3)
    q, k, v = case.drawn()
    q[:], k[:] = 1, 0
    k[:, 0, 0] = np.array([100, -100, 300, -50, 290])[np.arange(300) // 64]
    found = Cache(case, kv, path).store(k, v).attend(q)
    assert np.abs(found - case.exact(q, k, v)).max() < 0.02
