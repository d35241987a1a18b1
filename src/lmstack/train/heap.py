"""What the C library does with memory that a training step frees."""

import ctypes

__all__ = ["keep_freed_memory"]

# Of malloc.h; a mapping threshold above this is refused.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 << 20


def keep_freed_memory() -> None:
    """Keep it for the next tensors instead of giving it back to the system at once: a step frees
    and asks for gigabytes, and the system clears each page of them anew. For this process, with
    glibc; elsewhere nothing changes (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(_TOP_PAD, 2 * _LARGEST)
