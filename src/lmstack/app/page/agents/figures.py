"""How figures of runs read: durations, money, times, and models by name and digest."""

from __future__ import annotations

from datetime import UTC, datetime

from lmstack.app.formats import seconds

__all__ = ["counted", "duration", "model_name", "money", "when"]


def duration(value: float) -> str:
    """``under 1 ms``, ``40 ms``, ``1.2 s``, ``2 min 05 s``."""
    if not 0 < value < 0.0995:
        return seconds(value)
    return f"{value * 1000:.0f} ms" if value >= 0.0005 else "under 1 ms"


def money(value: float) -> str:
    """Four figures, and never as a power of ten."""
    return f"{value:,.2f}" if value >= 100 else f"{value:.4g}" if value >= 1e-4 else f"{value:.7f}"


def when(at: float) -> str:
    """Unix time in UTC: a page may be read anywhere. Empty for no time at all."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else ""
    except (OverflowError, ValueError, OSError):
        return ""


def model_name(name: str, digest: str | None) -> str:
    """The digest cut to what people compare."""
    return f"{name}@{digest.removeprefix('sha256:')[:7]}" if digest else name


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
