"""A symbolic trace of the forward pass.

`Transformer.hidden` and `Transformer.logits` are called once with `Symbol`s for tensors and
`TracingOps` for ops. What they do to the symbols becomes a list of `Node`s, from which
`lowering` makes a program for the native kernels. So the pass stays written once, and a family
that can be traced needs nothing more.

A symbol is (tokens, ...) with the number of tokens open: some columns of what a node gives.
Anything else that the pass may do raises `UnsupportedError`: that model then runs on the
reference ops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.model import RopeSpec, Transformer
from lmstack.model.biases import ScoreBias
from lmstack.model.config import Activation
from lmstack.model.context import ForwardContext
from lmstack.model.layers import LayerNorm, RMSNorm
from lmstack.model.positions import sinusoids

__all__ = ["Node", "Symbol", "TracingOps", "trace_cross", "trace_hidden", "trace_logits"]

_TOKENS = -1  # stands for their number, as in `Tensor.view`


@dataclass(eq=False)
class Node:
    """One op. ``width``: columns of what it gives. ``fields``: what else it needs."""

    kind: str
    inputs: tuple[Symbol, ...]
    width: int
    fields: Mapping[str, Any] = field(default_factory=dict)


def _refuse(what: str) -> NoReturn:
    raise UnsupportedError(
        f"{what} has no native kernel", hint="this model runs on the reference ops"
    )


class Symbol:
    """Columns from ``at`` on of what ``node`` gives, seen as (tokens, *inner)."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, node: Node, at: int = 0, inner: tuple[int, ...] | None = None) -> None:
        self.node, self.at = node, at
        self.inner = (node.width,) if inner is None else inner

    @property
    def shape(self) -> tuple[int, ...]:
        return (_TOKENS, *self.inner)

    @property
    def width(self) -> int:
        return math.prod(self.inner)

    def dim(self) -> int:
        return len(self.shape)

    def view(self, *shape: int | tuple[int, ...]) -> Symbol:
        tokens, *inner = shape[0] if isinstance(shape[0], tuple) else cast(tuple[int, ...], shape)
        if tokens != _TOKENS:
            _refuse(f"a view as {shape}")
        known = math.prod(n for n in inner if n != -1)
        return Symbol(
            self.node, self.at, tuple(self.width // known if n == -1 else n for n in inner)
        )

    reshape = view

    def flatten(self, start: int = 0, end: int = -1) -> Symbol:
        if (start, end) != (-2, -1):
            _refuse(f"flatten({start}, {end})")
        return self.view(_TOKENS, *self.inner[:-2], self.inner[-2] * self.inner[-1])

    def split_with_sizes(self, sizes: Sequence[int], dim: int = 0) -> tuple[Symbol, ...]:
        if dim not in (-len(self.inner), self.dim() - len(self.inner)):
            _refuse(f"a split along dimension {dim}")
        row = math.prod(self.inner[1:])
        starts = itertools.accumulate((0, *sizes[:-1]))
        return tuple(
            Symbol(self.node, self.at + start * row, (n, *self.inner[1:]))
            for start, n in zip(starts, sizes, strict=True)
        )

    def chunk(self, count: int, dim: int = 0) -> tuple[Symbol, ...]:
        return self.split_with_sizes([self.inner[0] // count] * count, dim)

    def clamp(self, low: float, high: float) -> Symbol:
        return self._then("clamp", a=low, b=high)

    def to(self, _dtype: torch.dtype) -> Symbol:
        return self  # all floats are float32

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"{name} of activations")

    def __getitem__(self, _key: object) -> NoReturn:
        _refuse("a part of activations")

    def __add__(self, other: Symbol | Tensor | int) -> Symbol:
        if isinstance(other, Symbol):
            if other.width != self.width:
                _refuse(f"a sum of {self.width} and {other.width} columns")
            return Symbol(Node("add", (self, other), self.width), inner=self.inner)
        if isinstance(other, int) and self.node.kind == "stream":
            offset = self.node.fields["offset"] + other
            return Symbol(Node("stream", (), 1, {**self.node.fields, "offset": offset}))
        if isinstance(other, Tensor) and other.dim() == 1:
            return self._then("shift", values=other)
        _refuse("a sum of activations and other values")

    def __mul__(self, other: float | Tensor) -> Symbol:
        if isinstance(other, Tensor) and other.dim():
            _refuse("a product with a tensor")
        return self._then("scale", a=float(other))

    def __truediv__(self, other: float) -> Symbol:
        return self._then("divide", a=float(other))

    def _then(self, kind: str, **fields: Any) -> Symbol:
        return Symbol(Node(kind, (self,), self.width, fields), inner=self.inner)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        _types: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is sinusoids:
            rows, width = args
            fields = {**rows.node.fields, "sinusoids": kwargs["halves"]}
            return Symbol(Node("embed", (), width, fields))
        if function is torch.tanh:
            return args[0]._then("act", act="tanh")
        if function is torch.zeros_like:
            return Symbol(Node("stream", (), 1, {"stream": "types", "offset": 0}))
        if function is torch.cat and kwargs.get("dim", 0) == -2:
            parts: Sequence[Symbol] = args[0]
            inner = (sum(p.inner[0] for p in parts), *parts[0].inner[1:])
            return Symbol(Node("concat", tuple(parts), math.prod(inner)), inner=inner)
        return _refuse(f"torch.{getattr(function, '__name__', function)}")


@dataclass(frozen=True)
class _Turn:
    """Stands for cosines and sines alike."""

    rope: RopeSpec
    length: int | None


class TracingOps:
    """`Ops` on symbols."""

    def embedding(self, ids: Symbol, table: Any) -> Symbol:
        if ids.node.kind != "stream":
            _refuse("an embedding of what is computed")
        width = getattr(table, "cols", None) or table.weight.shape[1]
        return Symbol(Node("embed", (), width, {**ids.node.fields, "table": table}))

    def norm(self, x: Symbol, norm: RMSNorm | LayerNorm) -> Symbol:
        if not isinstance(x, Symbol):
            _refuse("a table of relative positions")
        size = norm.weight.shape[0]
        if x.inner[-1] != size:
            _refuse(f"a norm of {size} over {x.inner}")
        return x._then("norm", norm=norm, parts=x.width // size)

    def linear(self, x: Symbol, weight: Any) -> Symbol:
        if not isinstance(x, Symbol):
            _refuse("a table of relative positions")
        if getattr(weight, "codes", None) is None:
            _refuse(f"{type(weight).__name__}, a matrix that is not quantized,")
        width = weight.rows
        return Symbol(Node("linear", (x,), width, {"matrix": weight}))

    def activation(self, x: Symbol, kind: Activation) -> Symbol:
        return x._then("act", act=kind)

    def glu(self, gate_up: Symbol, kind: Activation) -> Symbol:
        return Symbol(Node("glu", (gate_up,), gate_up.width // 2, {"act": kind}))

    def rotary_tables(
        self, rope: RopeSpec, _positions: Symbol, _head_dim: int, _dtype: Any, length: int | None
    ) -> tuple[_Turn, _Turn]:
        return (_Turn(rope, length),) * 2

    def rotary(self, x: Symbol, cos: _Turn, _sin: _Turn) -> Symbol:
        return x._then("rotary", rope=cos.rope)

    def attention(self, *_: Any) -> Symbol:
        _refuse("attention without a cache")

    def mixture(self, *_: Any) -> Symbol:
        _refuse("a mixture of experts")


class _Attend:
    """`Attend` on symbols."""

    def __call__(
        self, layer: int, q: Symbol, k: Symbol, v: Symbol, bias: ScoreBias | None = None
    ) -> Symbol:
        node = Node("attend", (q, k, v), q.width, {"layer": layer, "bias": bias})
        return Symbol(node, inner=q.inner)

    def cross(self, layer: int, q: Symbol) -> Symbol:
        return Symbol(Node("cross", (q,), q.width, {"layer": layer}), inner=q.inner)


def _input(width: int) -> Symbol:
    return Symbol(Node("input", (), width))


def _context() -> ForwardContext:
    return ForwardContext(cast(Any, TracingOps()), cast(Any, _Attend()))


def trace_hidden(module: Transformer) -> Symbol:
    """`Transformer.hidden`, of tokens end to end, as the node that gives its result."""
    ids, positions = (
        Symbol(Node("stream", (), 1, {"stream": name, "offset": 0}))
        for name in ("ids", "positions")
    )
    types = None
    if module.config.token_types:
        types = Symbol(Node("stream", (), 1, {"stream": "types", "offset": 0}))
    hidden = module.hidden(*cast(Any, (ids, positions, _context(), types)))
    return cast(Symbol, hidden)


def trace_logits(module: Transformer) -> Symbol:
    """`Transformer.logits` of hidden states that are given."""
    given = _input(module.config.hidden_size)
    return cast(Symbol, module.logits(cast(Any, given), _context()))


def trace_cross(module: Transformer) -> list[Symbol]:
    """`Transformer.cross_states` of an encoder's output that is given: keys and values stored."""
    encoder = module.config.encoder
    assert encoder is not None
    states = module.cross_states(cast(Any, _input(encoder.hidden_size)), _context())
    return [
        Symbol(Node("store", cast(Any, (k, v)), 0, {"layer": layer}))
        for layer, (k, v) in enumerate(states)
    ]
