"""What a stranger may do to a model folder: sizes, types, places, settings and values that lie.

`mutated` draws one to three changes for a seed. Most keep a file well formed, so that they reach
what lies behind its parser: data are made as long as a changed shape says, and a matrix that is
quantized gets codes and scales for its changed rows, columns and groups. Some change nothing that
counts; then the model must give the bits that it gave.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fuzz.bases import Base, Files, config_of, packed, randomized
from tests.fuzz.containers import Entry, Gguf, Safetensors, Tensor

from lmstack.core import FormatError, LmstackError
from lmstack.model import TransformerConfig
from lmstack.model.formats.gguf.blocks import BLOCK_TYPES, TYPE_NAMES
from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.model.quant.matrix import PANEL, buffer_shapes
from lmstack.model.quant.nf4 import nf4_scales

__all__ = ["Mutant", "mutated"]

_DTYPES = {
    "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8,
    "BOOL": 1, "F8_E4M3": 1, "U64": 8, "X": 4,
}  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 16, 31, 64, 257, 4096, 1 << 16, 1 << 22, (1 << 31) - 1, 1 << 31, 1 << 32,
    1 << 63, 10**30, 0.0, 0.5, -1.5, 1e-320, 1e308, math.nan, math.inf, True, None, "x", [], {},
)  # fmt: skip
_MOST_BYTES = 1 << 22
_MOST_WEIGHTS = 300_000
_EXTREMES = tuple(struct.pack("<f", x) for x in (math.inf, -math.nan, 3e38, 1e-45, -65504.0, 0.0))


@dataclass(frozen=True)
class Mutant:
    """``files`` of a folder, and what was done. ``neutral``: it changes nothing that counts.
    ``wild``: weights are no longer of a size that results can be compared at."""

    files: Files
    changes: tuple[str, ...]
    neutral: bool = False
    wild: bool = False


def mutated(base: Base, seed: int) -> Mutant:
    rng = random.Random(seed)
    if rng.random() < 0.05:
        return _broken(base, rng)
    if base.form != "gguf" and rng.random() < 0.25 and (other := _reconfigured(base, rng)):
        return other
    if base.form == "gguf":
        return _changed_gguf(dict(base.files), rng)
    return _changed_tensors(base, rng)


# -- whole files --------------------------------------------------------------------------------


def _broken(base: Base, rng: random.Random) -> Mutant:
    """Bytes of one file cut off, flipped, added or gone."""
    files = dict(base.files)
    name = rng.choice(sorted(files))
    raw = bytearray(files[name])
    what = rng.choice(("cut", "flip", "add", "gone"))
    if what == "cut":
        del raw[rng.randrange(len(raw)) :]
    elif what == "flip":
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(min(len(raw), rng.choice((64, 4096, len(raw)))))] = rng.randrange(256)
    elif what == "add":
        raw += rng.randbytes(rng.randint(1, 64))
    files[name] = bytes(raw)
    if what == "gone":
        del files[name]
    return Mutant(files, (f"{what} {name}",), wild=True)


def _reconfigured(base: Base, rng: random.Random) -> Mutant | None:
    """Another config, with weights that belong to it: it may be refused, else it must run."""
    config = config_of(base)
    changes = []
    try:
        for _ in range(rng.randint(1, 3)):
            config, change = _other_setting(config, rng)
            changes.append(change)
        module = randomized(config)
    except LmstackError:
        return None
    form = base.form if base.form != "plain" else "int8"
    return Mutant(packed(module, form), tuple(changes))


def _other_setting(config: TransformerConfig, rng: random.Random) -> tuple[TransformerConfig, str]:
    """``config`` with one field that is another and passes its checks."""
    for _ in range(30):
        field = rng.choice(dataclasses.fields(config))
        value = _other_value(getattr(config, field.name), field.name, rng)
        try:
            found = config.replace(**{field.name: value})
            if _weights(found) <= _MOST_WEIGHTS:
                return found, f"{field.name} = {value!r:.60}"
        except (LmstackError, TypeError):
            continue
    return config, "none"


def _weights(config: TransformerConfig) -> int:
    """About how many a model has; a config may ask for any number."""
    D, hd = config.hidden_size, config.head_dim
    inner = config.intermediate_size * max(1, config.num_experts)
    layer = D * hd * (config.qkv_heads + config.num_heads) + 3 * D * inner
    rows = config.vocab_size + config.max_positions * (config.positions == "learned")
    rows += config.token_types + config.num_labels + config.bias_buckets + config.bias_max_distance
    more = 0 if config.encoder is None else _weights(config.encoder)
    return layer * config.num_layers + rows * max(D, config.embedding_width) + more


_WORDS = {
    "norm": ("rms", "rms1p", "ln", "ln_nobias"),
    "norm_place": ("pre", "post", "sandwich", "post_only"),
    "positions": ("none", "learned", "sinusoidal", "sinusoidal_halves"),
    "bias": ("none", "alibi", "t5", "deberta"),
    "qk_norm": ("none", "head", "full"),
    "mlp": ("plain", "glu"),
    "activation": ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "tanh"),
    "head": ("lm", "sequence", "token", "span", "pool", "none"),
    "pooling": ("first", "last", "mean"),
    "transform": (None, "gelu", "tanh"),
}


def _other_value(value: Any, name: str, rng: random.Random) -> Any:
    if name in _WORDS:
        return rng.choice(_WORDS[name])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = (value + 1, value - 1, 2 * value, value // 2, rng.randint(0, 70), 300)
        return rng.choice(near)
    if name == "kinds":
        return tuple(_other_kind(kind, rng) for kind in value)
    if isinstance(value, TransformerConfig):
        return _other_setting(value, rng)[0]
    if name == "encoder":
        return None
    if isinstance(value, float) or name in ("attention_scale", "logit_softcap", "qkv_clip"):
        return rng.choice((None, 0.25, 1.0, 3.0, 50.0))
    return rng.choice((None, 0, 1, 2, 5, 32, 48, 64, ()))


def _other_kind(kind: Any, rng: random.Random) -> Any:
    if kind.rope is None or rng.random() < 0.4:
        return dataclasses.replace(kind, window=rng.choice((None, 1, 2, 5, 100)))
    changes = {
        "fraction": rng.choice((0.25, 0.5, 0.75, 1.0)),
        "scaling": rng.choice(("default", "linear", "dynamic", "yarn", "llama3")),
        "factor": rng.choice((0.5, 1.0, 8.0)),
        "original_positions": rng.choice((2, 8, 16, 4096)),
    }
    name = rng.choice(sorted(changes))
    return dataclasses.replace(kind, rope=kind.rope.replace(**{name: changes[name]}))


# -- tensors of safetensors ---------------------------------------------------------------------


def _changed_tensors(base: Base, rng: random.Random) -> Mutant:
    files = dict(base.files)
    name = next(n for n in files if n.endswith(".safetensors"))
    file = Safetensors.parsed(files[name])
    kinds: list[tuple[int, Callable[[], str]]] = [
        (4, lambda: _resize(rng.choice(file.tensors), rng)),
        (2, lambda: _retype(rng.choice(file.tensors), rng)),
        (2, lambda: _misplace(file, rng)),
        (2, lambda: _swap(file.tensors, rng)),
        (1, lambda: _drop_or_add(file.tensors, rng)),
        (2, lambda: _extreme(rng.choice(file.tensors), rng)),
        (1, lambda: _neutral(file, files, rng)),
        (4, lambda: _setting(file, files, rng)),
    ]
    if name == QUANTIZED_FILE:
        kinds.append((6, lambda: _rematrix(file, rng)))
    changes = _drawn(kinds, rng)
    files[name] = file.written()
    return Mutant(
        files,
        changes,
        neutral=all(change.startswith("neutral") for change in changes),
        wild=any(change.startswith(("extreme", "swap", "set")) for change in changes),
    )


def _drawn(kinds: list[tuple[int, Callable[[], str]]], rng: random.Random) -> tuple[str, ...]:
    count = rng.choice((1, 1, 1, 2, 3))
    chosen = rng.choices([act for _, act in kinds], [weight for weight, _ in kinds], k=count)
    return tuple(act() for act in chosen)


def _fill(data: bytes, size: int) -> bytes:
    """``data`` repeated or cut to ``size`` bytes."""
    return (data * (size // max(1, len(data)) + 1))[:size] if data else bytes(size)


def _other_shape(shape: list[int], rng: random.Random) -> list[int]:
    found = list(shape)
    what = rng.choice(("more", "less", "double", "huge", "swap", "flat", "nest", "any"))
    at = rng.randrange(len(found)) if found else 0
    if not found or what == "nest":
        return [1, *found]
    if what == "swap":
        return found[::-1]
    if what == "flat":
        return [math.prod(found)]
    found[at] = {
        "more": found[at] + 1,
        "less": max(found[at] - 1, 0),
        "double": 2 * found[at],
        "huge": found[at] * 128,
        "any": rng.randint(1, 200),
    }[what]
    return found


def _resize(tensor: Tensor, rng: random.Random) -> str:
    width = len(tensor.data) // max(1, math.prod(tensor.shape)) or 1
    shape = _other_shape(tensor.shape, rng)
    if math.prod(shape) * width > _MOST_BYTES:
        return "none"
    said = f"resize {tensor.name} {tensor.shape} -> {shape}"
    tensor.shape, tensor.data = shape, _fill(tensor.data, math.prod(shape) * width)
    return said


def _retype(tensor: Tensor, rng: random.Random) -> str:
    kind = rng.choice(sorted(_DTYPES))
    said = f"retype {tensor.name} {tensor.kind} -> {kind}"
    tensor.data = _fill(tensor.data, math.prod(tensor.shape) * _DTYPES[kind])
    tensor.kind = kind
    return said


def _misplace(file: Safetensors, rng: random.Random) -> str:
    """Offsets that lie, or data that begin at an odd byte."""
    if rng.random() < 0.3:
        file.padding = rng.choice((1, 2, 3, 8, 16, 33))
        return f"padding {file.padding}"
    tensor = rng.choice(file.tensors)
    size = len(tensor.data)
    start = rng.choice((0, 1, 2, 64, -64, size, 1 << 20, 1 << 40, -(1 << 63)))
    end = start + rng.choice((size, size, size, 0, 1, -1, 2 * size))
    tensor.offsets = (start, end)
    return f"offsets {tensor.name} {tensor.offsets}"


def _swap(tensors: list[Tensor], rng: random.Random) -> str:
    one, other = rng.choice(tensors), rng.choice(tensors)
    if rng.random() < 0.5:
        one.name, other.name = other.name, one.name
    else:
        one.data, other.data = _fill(other.data, len(one.data)), _fill(one.data, len(other.data))
    return f"swap {one.name} {other.name}"


def _drop_or_add(tensors: list[Tensor], rng: random.Random) -> str:
    at = rng.randrange(len(tensors))
    if rng.random() < 0.5:
        return f"drop {tensors.pop(at).name}"
    more = dataclasses.replace(tensors[at], name=rng.choice(("more", f"{tensors[at].name}.more")))
    tensors.append(more)
    return f"add {more.name}"


def _extreme(tensor: Tensor, rng: random.Random) -> str:
    """All of a tensor's values, or a few, at the ends of what can be written."""
    size = len(tensor.data)
    if rng.random() < 0.5:
        pattern = rng.choice((b"\0", b"\xff", b"\x7f", *_EXTREMES, rng.randbytes(256)))
        tensor.data = _fill(pattern, size)
        return f"extreme {tensor.name}: {pattern[:4]!r}"
    raw = bytearray(tensor.data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, size - 4)) // 4 * 4
        raw[at : at + 4] = rng.choice(_EXTREMES)
    tensor.data = bytes(raw[:size])
    return f"extreme places of {tensor.name}"


def _neutral(file: Safetensors, files: Files, rng: random.Random) -> str:
    what = rng.choice(("order", "metadata", "file", "blanks"))
    if what == "order":
        if file.metadata.get("matrices") is None:
            rng.shuffle(file.tensors)
        else:  # codes must stay where they begin at whole cache lines
            file.tensors = [*file.tensors[1:], file.tensors[0]]
    elif what == "metadata":
        file.metadata["more"] = "text"
    elif what == "file":
        files["NOTES.txt"] = b"of no meaning"
    else:
        file.padding = 64
    return f"neutral {what}"


def _setting(file: Safetensors, files: Files, rng: random.Random) -> str:
    """A setting of the config that is another, without weights for it."""
    place = file.metadata if "config" in file.metadata else files
    name = "config" if place is file.metadata else "config.json"
    values = json.loads(place[name])
    inner, path = values, []
    while True:
        key: Any = rng.choice(sorted(inner) if isinstance(inner, dict) else range(len(inner)))
        path.append(key)
        if not isinstance(inner[key], dict | list) or not inner[key] or rng.random() < 0.2:
            break
        inner = inner[key]
    value = inner[key]
    near = (value + 1, value - 1, 2 * value) if type(value) in (int, float) else ()
    inner[key] = rng.choice((*near, *near, *_NUMBERS))
    text = json.dumps(values)
    place[name] = text if place is file.metadata else text.encode()
    return f"set {path}: {value!r:.40} -> {inner[key]!r:.40}"


def _rematrix(file: Safetensors, rng: random.Random) -> str:
    """A quantized matrix of other rows, columns or groups, whole in itself."""
    matrices = json.loads(file.metadata["matrices"])
    key = rng.choice(sorted(matrices))
    values = list(matrices[key])
    at = rng.choice((0, 0, 0, 1, 1, 1, 2, 3, 5, 6))
    if at < 2:
        more = (1, -1, 16, -16, values[at], 15 * values[at], 1000, -values[at] // 2)
        values[at] += rng.choice(more)
    else:
        values[at] = {
            2: rng.choice((16, 32, 64, 128, 192, 256, 7)),
            3: 12 - values[3],
            5: 1 - values[5],
            6: rng.choice((0, 1, 2, 3, 1000)),
        }[at]
    rows, cols, group, bits, _, paired, superblock = values
    by_name = {tensor.name: tensor for tensor in file.tensors}
    has_mins = f"{key}.mins" in by_name
    middle = 128 if bits == 8 or f"{key}.codebook" in by_name else 8
    book = by_name.get(f"{key}.codebook")
    in_floats = book is not None and book.kind == "F32"
    values[4] = 0 if has_mins or in_floats else middle
    said = f"matrix {key} {matrices[key]} -> {values}"
    matrices[key] = values
    file.metadata["matrices"] = json.dumps(matrices)
    try:
        codes, scales = buffer_shapes(rows, cols, group, bits, superblock, paired=bool(paired))
    except FormatError:
        return said
    if math.prod(codes) > _MOST_BYTES:
        return said
    groups = (codes[0], codes[1], PANEL)
    for part, shape, width in (
        ("codes", codes, 1),
        ("scales", (nf4_scales(rows, codes[1]),), 4) if in_floats else ("scales", scales, 2),
        ("mins", scales, 2),
        *(("scale_codes", groups, 1), ("min_codes", groups, 1)),
    ):
        if tensor := by_name.get(f"{key}.{part}"):
            tensor.shape = list(shape)
            tensor.data = _fill(tensor.data, math.prod(shape) * width)
    return said


# -- GGUF ---------------------------------------------------------------------------------------


def _changed_gguf(files: Files, rng: random.Random) -> Mutant:
    file = Gguf.parsed(files["model.gguf"])
    kinds: list[tuple[int, Callable[[], str]]] = [
        (4, lambda: _resize_gguf(rng.choice(file.tensors), rng)),
        (4, lambda: _rekind(rng.choice(file.tensors), rng)),
        (2, lambda: _misplace_gguf(rng.choice(file.tensors), rng)),
        (2, lambda: _swap(file.tensors, rng)),
        (1, lambda: _drop_or_add(file.tensors, rng)),
        (2, lambda: _extreme(rng.choice(file.tensors), rng)),
        (6, lambda: _reentry(file, rng)),
        (1, lambda: _neutral_gguf(file, files, rng)),
    ]
    changes = _drawn(kinds, rng)
    files["model.gguf"] = file.written()
    return Mutant(
        files,
        changes,
        neutral=all(change.startswith("neutral") for change in changes),
        wild=any(change.startswith(("extreme", "swap", "kind", "entry")) for change in changes),
    )


def _size(kind: int, shape: list[int]) -> int:
    block = BLOCK_TYPES.get(kind)
    count = math.prod(shape)
    return 4 * count if block is None else -(-count // block.weights) * block.size


def _resize_gguf(tensor: Tensor, rng: random.Random) -> str:
    shape = _other_shape(tensor.shape, rng)
    if _size(tensor.kind, shape) > _MOST_BYTES:
        return "none"
    said = f"resize {tensor.name} {tensor.shape} -> {shape}"
    tensor.shape, tensor.data = shape, _fill(tensor.data, _size(tensor.kind, shape))
    return said


def _rekind(tensor: Tensor, rng: random.Random) -> str:
    """Other blocks, of random bytes: every code that a block can hold."""
    kind = rng.choice((*BLOCK_TYPES, *BLOCK_TYPES, *TYPE_NAMES, 99, (1 << 32) - 1))
    said = f"kind {tensor.name} {tensor.kind} -> {kind}"
    tensor.kind, tensor.data = kind, rng.randbytes(_size(kind, tensor.shape))
    return said


def _misplace_gguf(tensor: Tensor, rng: random.Random) -> str:
    tensor.offsets = (rng.choice((0, 1, 32, 64, 1 << 20, (1 << 64) - 32, 1 << 63)), 0)
    return f"offset {tensor.name} {tensor.offsets[0]}"


def _reentry(file: Gguf, rng: random.Random) -> str:
    at = rng.randrange(len(file.entries))
    entry = file.entries[at]
    if rng.random() < 0.1:
        del file.entries[at]
        return f"entry {entry.key} gone"
    if entry.kind in (4, 5, 10, 11):
        width, shape = (4, "<I") if entry.kind in (4, 5) else (8, "<Q")
        (value,) = struct.unpack(shape, entry.raw)
        near = (value + 1, value - 1, 2 * value, value // 2, 0, 1 << 16, (1 << 31) - 1, -1)
        raw = struct.pack(shape, rng.choice(near) % (1 << 8 * width))
    elif entry.kind == 6:
        raw = rng.choice((*_EXTREMES, struct.pack("<f", 0.5)))
    elif entry.kind == 7:
        raw = bytes([1 - entry.raw[0]])
    else:
        raw = struct.pack("<Q", 1) + b"x"
        entry = dataclasses.replace(entry, kind=8)
    kind = entry.kind if rng.random() < 0.9 else rng.choice((0, 4, 5, 6, 7))
    file.entries[at] = Entry(entry.key, kind, raw)
    return f"entry {entry.key} {raw[:16]!r} of type {kind}"


def _neutral_gguf(file: Gguf, files: Files, rng: random.Random) -> str:
    what = rng.choice(("order", "entries", "more", "file"))
    if what == "order":
        rng.shuffle(file.tensors)
    elif what == "entries":
        rng.shuffle(file.entries)
    elif what == "more":
        file.entries.append(Entry("general.description", 8, struct.pack("<Q", 1) + b"x"))
    else:
        files["NOTES.txt"] = b"of no meaning"
    return f"neutral {what}"
