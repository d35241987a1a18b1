"""From a symbolic trace to a program: ops fused, buffers shared, everything as C structs.

What is fused: a norm into the products that alone read it; a bias, an activation or a gated
unit, and then the sum with the residual, behind a product. A buffer is used again once its last
reader is done; one that no attention lies across lives within a tile of rows only.

Not covered: running a program (`program`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import UnsupportedError
from lmstack.engine.cpu.trace import Node, Symbol
from lmstack.model.layers import LayerNorm, RMSNorm

__all__ = ["Buffer", "Lowered", "Place", "Step", "lower"]

# Which ops need all rows at once: what others hand on to them, or read from them, must be kept.
_AROUND = ("attend", "cross")


@dataclass(eq=False)
class Buffer:
    """``columns`` of numbers. ``first`` and ``last``: steps that write and read it, in order."""

    columns: int
    first: int
    last: int
    local: bool = True
    at: int = 0

    @property
    def width(self) -> int:
        """Columns with their padding: whole panels."""
        return -(-self.columns // 16) * 16


@dataclass(frozen=True)
class Place:
    buffer: Buffer
    at: int = 0


@dataclass(eq=False)
class Step:
    """One C op. ``places``: by name, what it reads and writes."""

    kind: str
    places: dict[str, Place]
    cols: int = 0
    norm: RMSNorm | LayerNorm | None = None
    parts: int = 1
    act: str | None = None
    matrix: Any = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lowered:
    """``steps`` over ``buffers``; ``row_floats`` and ``local_floats``: columns of all buffers of
    each kind. ``input`` and ``output`` are the caller's memory."""

    steps: Sequence[Step]
    buffers: Sequence[Buffer]
    row_floats: int
    local_floats: int
    input: Buffer | None
    output: Buffer | None


def lower(results: Sequence[Symbol]) -> Lowered:
    """The program that gives ``results``: one symbol, or several nodes that only store."""
    return _Lowering(results).done()


class _Lowering:
    def __init__(self, results: Sequence[Symbol]) -> None:
        self._nodes = _ordered(results)
        self._readers = Counter(id(s.node) for n in self._nodes for s in n.inputs)
        self._last = {id(s.node): n for n in self._nodes for s in n.inputs}
        self._result = results[0].node if results[0].node.kind != "store" else None
        if self._result is not None:
            self._readers[id(self._result)] += 1
        self._steps: list[Step] = []
        self._buffers: list[Buffer] = []
        self._made: dict[int, Place] = {}  # where a node's result lies, by id
        self._fused: set[int] = set()
        self._input: Buffer | None = None

    def done(self) -> Lowered:
        for node in self._nodes:
            if id(node) not in self._fused:
                self._emit(node)
        output = None if self._result is None else self._made[id(self._result)].buffer
        self._live(output)
        memory = [b for b in self._buffers if b is not output and b is not self._input]
        rows = _placed([b for b in memory if not b.local])
        local = _placed([b for b in memory if b.local])
        return Lowered(self._steps, self._buffers, rows, local, self._input, output)

    # -- one node ------------------------------------------------------------------------------

    def _emit(self, node: Node) -> None:
        if node.kind == "input":
            self._input = self._new(node, node.width).buffer
        elif node.kind == "stream":
            pass
        elif node.kind in ("attend", "store"):
            self._attention(node)
        elif node.kind == "linear":
            self._linear(node)
        elif node.kind == "norm":
            if not self._into_products(node):
                self._simple(node, norm=node.fields["norm"], parts=node.fields["parts"])
        elif node.kind == "concat":
            self._concat(node)
        elif node.kind == "divide":
            self._softcap(node)
        elif node.kind == "rotary":
            # Done in place, when its queries and keys are attended with.
            self._alone(node.inputs[0].node, "a rotation of what is read elsewhere")
            self._made[id(node)] = self._place(node.inputs[0])
        elif node.kind == "glu":
            raise UnsupportedError("a gated unit without its product has no native kernel")
        else:
            self._simple(node)

    def _simple(self, node: Node, **more: Any) -> None:
        names = ("in", "other")
        places = {n: self._place(s) for n, s in zip(names, node.inputs, strict=False)}
        places["out"] = self._new(node, node.width)
        fields = {k: v for k, v in node.fields.items() if k not in ("norm", "parts", "act")}
        self._steps.append(
            Step(
                node.kind, places, node.width, act=node.fields.get("act"), fields=fields, **more
            )
        )  # fmt: skip

    def _linear(self, node: Node) -> None:
        """A product with all that can be done to its result while it is at hand."""
        source, norm = node.inputs[0], None
        if source.node.kind == "norm" and id(source.node) in self._fused:
            norm, source = source.node.fields["norm"], source.node.inputs[0]
        matrix, act, last = node.fields["matrix"], None, node
        follower = self._only_reader(last)
        if follower is not None and follower.kind == "glu" and matrix.paired:
            act, last = follower.fields["act"], self._take(follower)
        elif matrix.paired:
            raise UnsupportedError("gate and up without their gated unit have no native kernel")
        elif follower is not None and follower.kind == "act":
            act, last = follower.fields["act"], self._take(follower)
        places = {"in": self._place(source)}
        follower = self._only_reader(last)
        if follower is not None and follower.kind == "add":
            other = next(s for s in follower.inputs if s.node is not last)
            if id(other.node) in self._made:
                places["other"] = self._place(other)
                last = self._take(follower)
        places["out"] = self._new(last, last.width)
        self._steps.append(
            Step("linear", places, source.width, norm=norm, act=act, matrix=matrix)
        )  # fmt: skip

    def _into_products(self, node: Node) -> bool:
        """Whether all who read this norm are products, which then do it themselves."""
        readers = [n for n in self._nodes if any(s.node is node for s in n.inputs)]
        if node is self._result or node.fields["parts"] != 1:
            return False
        if not readers or any(n.kind != "linear" for n in readers):
            return False
        self._fused.add(id(node))
        return True

    def _attention(self, node: Node) -> None:
        keys = node.inputs[-2:]
        queries = node.inputs[0]
        turned = [s.node for s in (queries, keys[0]) if s.node.kind == "rotary"]
        rope = turned[0].fields["rope"] if turned else None
        places = {"in": self._place(queries), "other": self._place(keys[0])}
        places["third"] = self._place(keys[1])
        fields = {**node.fields, "rope": rope, "queries": node.kind == "attend"}
        self._steps.append(Step("store", places, fields=fields))
        if node.kind == "attend":
            places = {"in": places["in"], "out": self._new(node, node.width)}
            self._steps.append(Step("attend", places, node.width, fields=dict(node.fields)))

    def _concat(self, node: Node) -> None:
        whole, at = self._new(node, node.width), 0
        for part in node.inputs:
            places = {"in": self._place(part), "out": Place(whole.buffer, at)}
            self._steps.append(Step("copy", places, part.width))
            at += part.width

    def _softcap(self, node: Node) -> None:
        """tanh(x / a) * a, as it is written in `Transformer.logits`."""
        tanh = self._only_reader(node)
        scale = None if tanh is None else self._only_reader(tanh)
        if tanh is None or tanh.fields.get("act") != "tanh" or scale is None:
            raise UnsupportedError("a division has no native kernel")
        if scale.kind != "scale" or scale.fields["a"] != node.fields["a"]:
            raise UnsupportedError("a division has no native kernel")
        self._take(tanh)
        self._take(scale)
        places = {"in": self._place(node.inputs[0]), "out": self._new(scale, node.width)}
        self._steps.append(Step("softcap", places, node.width, fields=dict(node.fields)))

    # -- readers and places --------------------------------------------------------------------

    def _only_reader(self, node: Node) -> Node | None:
        """The one node that reads this one, all of it; None where there are more or fewer."""
        if self._readers[id(node)] != 1 or node is self._result:
            return None
        reader = self._last[id(node)]
        whole = all(s.width == node.width for s in reader.inputs if s.node is node)
        return reader if whole else None

    def _take(self, node: Node) -> Node:
        self._fused.add(id(node))
        return node

    def _alone(self, node: Node, what: str) -> None:
        """Others may read other columns of it, not those that change."""
        if node.kind in ("input", "embed", "add", "norm") and self._readers[id(node)] > 1:
            raise UnsupportedError(f"{what} has no native kernel")

    def _new(self, node: Node, width: int) -> Place:
        buffer = Buffer(width, len(self._steps), len(self._steps))
        self._buffers.append(buffer)
        self._made[id(node)] = Place(buffer)
        return self._made[id(node)]

    def _place(self, symbol: Symbol) -> Place:
        made = self._made[id(symbol.node)]
        return Place(made.buffer, made.at + symbol.at)

    # -- lifetimes -----------------------------------------------------------------------------

    def _live(self, output: Buffer | None) -> None:
        """Set the lifetimes of buffers, and which of them an attention lies across."""
        around = [i for i, s in enumerate(self._steps) if s.kind in _AROUND]
        for index, step in enumerate(self._steps):
            for place in step.places.values():
                place.buffer.last = max(place.buffer.last, index)
        for buffer in self._buffers:
            buffer.local = not any(buffer.first <= i <= buffer.last for i in around)
        for kept in (output, self._input):
            if kept is not None:
                kept.local = False
                kept.last = len(self._steps)


def _ordered(results: Iterable[Symbol]) -> list[Node]:
    """All nodes that ``results`` come from, inputs before what reads them."""
    ordered: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(s.node, False) for s in reversed(list(results))]
    while stack:
        node, done = stack.pop()
        if done:
            ordered.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.append((node, True))
        stack += [(s.node, False) for s in reversed(node.inputs)]
    return ordered


def _placed(buffers: Sequence[Buffer]) -> int:
    """Give each buffer its columns of a common row, those of buffers that are over; the width."""
    end = 0
    free: list[tuple[int, int, int]] = []  # (width, at, when it is free)
    for buffer in sorted(buffers, key=lambda b: b.first):
        fits = [f for f in free if f[0] == buffer.width and f[2] < buffer.first]
        if fits:
            free.remove(fits[0])
            buffer.at = fits[0][1]
        else:
            buffer.at = end
            end += buffer.width
        free.append((buffer.width, buffer.at, buffer.last))
    return end
