"""Tasks for agents whose answers are known, made from a seed: what no model can know by itself.

*Single*: one call answers it (a sum of large numbers, or a price out of an invented list). *Two*:
two prices and what they cost together. *Extraction*: a record out of a sentence, as the arguments
of a named tool.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.evals.metrics.agent_run import last_number

__all__ = ["PRICES", "RECORD", "Task", "add", "is_right", "multiply", "price_of", "tasks"]

Kind = Literal["single", "two", "extraction"]
ITEMS = (
    *("blorp", "wug", "dax", "zorb", "fep", "quill", "mib", "tove", "grok", "snark", "plumb"),
    *("vint", "kessel", "orrin", "tarn", "yarrow", "bandle", "crith", "pelf", "murex"),
)
PRICES = {item: 3 + 7 * n for n, item in enumerate(ITEMS)}
PEOPLE = ("Anna Berg", "Tom Okoro", "Li Wei", "Maria Rossi", "Jonas Falk", "Aisha Khan")
CITIES = ("Oslo", "Turin", "Lagos", "Quito", "Hanoi", "Perth")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "First and last name"},
        "city": {"type": "string"},
        "age": {"type": "integer"},
    },
    "required": ["name", "city", "age"],
    "additionalProperties": False,
}
SENTENCES = (
    "{name} is {age} years old and lives in {city}.",
    "Living in {city} since last year, {name} turned {age} on Monday.",
    "The applicant, {name} ({age}), comes from {city}.",
    "At {age}, {name} opened a bakery in {city}.",
)


@dataclass(frozen=True)
class Task:
    """``answer``: a number, or the fields of a record."""

    kind: Kind
    text: str
    answer: Any


def add(a: float, b: float) -> float:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


def multiply(a: float, b: float) -> float:
    """Multiply two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a * b


def price_of(item: str) -> str:
    """The price of an item in the shop, in euros.

    Args:
        item: The name of the item.
    """
    found = PRICES.get(item.strip().lower().rstrip("s"), PRICES.get(item.strip().lower()))
    return f"{found} euros" if found is not None else f"there is no item {item}"


def tasks(each: int, seed: int = 0) -> list[Task]:
    """``each`` of every kind."""
    draw = random.Random(seed)
    made: list[Task] = []
    for number in range(each):
        a, b = draw.randint(1000, 9999), draw.randint(100, 999)
        item, other = draw.sample(ITEMS, 2)
        single = (
            (f"What is {a} times {b}?", a * b),
            (f"What is {a} plus {b}?", a + b),
            (f"What does a {item} cost in the shop?", PRICES[item]),
            (f"How many euros is one {item}?", PRICES[item]),
        )[number % 4]
        made.append(Task("single", *single))
        both = f"What do a {item} and a {other} cost together in the shop?"
        made.append(Task("two", both, PRICES[item] + PRICES[other]))
        record = {
            "name": draw.choice(PEOPLE),
            "city": draw.choice(CITIES),
            "age": draw.randint(18, 90),
        }
        sentence = SENTENCES[number % len(SENTENCES)].format(**record)
        made.append(Task("extraction", sentence, record))
    return made


def is_right(task: Task, answer: Any) -> bool:
    """A number is right if it is the last one of the text, as the scorer agent_run has it."""
    if task.kind == "extraction":
        return bool(answer == task.answer)
    return last_number(str(answer)) == float(task.answer)
