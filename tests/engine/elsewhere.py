"""A device of torch whose memory is the CPU's, but which no operator may mix with the CPU's.

``torch.device("elsewhere")`` is torch's PrivateUse1 backend. An op with a tensor of it and a tensor
of the CPU raises, but for the moves from one to the other; even 0-dim CPU tensors and index
tensors, which CUDA would let through. So whatever runs on it keeps its tensors together, and says
where it moves them. `COUNTS` has how often what was moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import return_and_correct_aliasing

__all__ = ["COUNTS", "DEVICE", "Far"]

torch.utils.backend_registration._setup_privateuseone_for_python_backend("elsewhere")
# What torch asks of every backend, in other tests of the process as well.
torch.elsewhere.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
DEVICE = torch.device("elsewhere", 0)
COUNTS: Counter[str] = Counter()
_aten = torch.ops.aten


class Far(Tensor):
    """``inner``: its values, a tensor of the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    @torch.inference_mode(False)
    def __new__(cls, inner: Tensor) -> Far:
        far = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        far.inner = inner
        return far

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Far({self.inner})"

    def tolist(self) -> Any:  # torch refuses it of any subclass
        COUNTS["tolist"] += 1
        return self.inner.tolist()

    @classmethod
    @torch.inference_mode(False)  # a view of a tensor from outside of it has to be counted
    def __torch_dispatch__(
        cls, op: Any, _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if op is _aten._to_copy.default:
            return _moved(args[0], kwargs)
        if op is _aten.copy_.default:
            return _copied(args[1], args[0])
        if op is _aten._has_compatible_shallow_copy_type.default:
            return False
        flat, _ = _pytree.tree_flatten((args, kwargs))
        near = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, Far)]
        assert not near, f"{op} mixes tensors of elsewhere and of the CPU, {near[0].shape}"
        inner_args, inner_kwargs = _pytree.tree_map(_inner, (args, kwargs))
        out = _pytree.tree_map(_outer, op(*inner_args, **inner_kwargs))
        return return_and_correct_aliasing(op, args, kwargs, out)


def _inner(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("cpu") if x.type == DEVICE.type else x
    return x.inner if isinstance(x, Far) else x


def _outer(x: Any) -> Any:
    return Far(x) if isinstance(x, Tensor) and not isinstance(x, Far) else x


def _moved(source: Tensor, kwargs: dict[str, Any]) -> Tensor:
    target = kwargs.pop("device", None) or source.device
    out: Tensor = _aten._to_copy.default(_inner(source), **kwargs)
    if torch.device(target).type == DEVICE.type:
        return Far(out)
    COUNTS["to the CPU"] += 1
    return out


def _copied(source: Tensor, target: Tensor) -> Tensor:
    COUNTS["from the CPU"] += isinstance(target, Far) > isinstance(source, Far)
    COUNTS["to the CPU"] += isinstance(target, Far) < isinstance(source, Far)
    _inner(target).copy_(_inner(source))
    return target


def _made(size: Any, *, dtype: torch.dtype | None = None, **_: object) -> Far:
    return Far(torch.empty(size, dtype=dtype))


def _strided(size: Any, stride: Any, *, dtype: torch.dtype | None = None, **_: object) -> Far:
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def _counted(
    start: Any, end: Any, step: Any = 1, *, dtype: torch.dtype | None = None, **_: object
) -> Far:
    return Far(torch.arange(start, end, step, dtype=dtype))


# What torch itself calls to make memory there, and to fill it from the CPU's.
_library = torch.library.Library("aten", "IMPL")
for _name, _function in {
    "empty.memory_format": _made,
    "empty_strided": _strided,
    "arange": partial(_counted, 0),
    "arange.start": _counted,
    "arange.start_step": _counted,
    "_copy_from": lambda source, target, _async=False: _copied(source, target),
}.items():
    _library.impl(_name, _function, "PrivateUse1")
