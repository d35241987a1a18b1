"""What the pages of several sets of look-alikes are made with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

from lookalikes_data import Key

__all__ = ["digits", "filed", "html", "money", "sentences", "talk"]


def sentences(text: str) -> list[str]:
    return [f"{each}." for each in " ".join(text.split()).removesuffix(".").split(". ")]


def talk(chance: random.Random, among: Sequence[str]) -> Callable[[int], str]:
    """Says so many sentences at a time, and none twice."""
    left = iter(chance.sample(among, len(among)))
    return lambda count: " ".join(islice(left, count))


def money(chance: random.Random, low: int, high: int) -> str:
    return f"{chance.randrange(100 * low, 100 * high) / 100:,.2f}"


def digits(chance: random.Random, count: int) -> str:
    return str(chance.randrange(10 ** (count - 1), 10**count))


def html(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def filed(folder: str, ending: str) -> Callable[[Key, int], str]:
    """A file's name that does not say the key."""
    return lambda _, place: f"{folder}/{place:05}.{ending}"
