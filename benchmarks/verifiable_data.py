"""Prompts whose answers can be checked: JSON by schemas of others.

Questions and function schemas of the Berkeley Function-Calling Leaderboard (BFCL v4, "simple
python"), whose schemas are made JSON Schema (``dict`` is object, ``float`` number, ``tuple`` array,
``any`` nothing). Split by hash of the question; the arguments that the leaderboard accepts are kept
beside, so that it can be said how often an answer that the schema allows is also right.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pinned import Wheel, wheel_files

__all__ = ["arguments_right", "json_rows"]

Row = dict[str, Any]
BFCL = Wheel(
    "bfcl-eval", "2026.3.23", "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
)
FILES = (
    "bfcl_eval/data/BFCL_v4_simple_python.json",
    "bfcl_eval/data/possible_answer/BFCL_v4_simple_python.json",
)
TYPES = {"dict": "object", "float": "number", "tuple": "array"}
KEPT = ("description", "enum", "required")
HELD_OUT = 0.3
# Without one the model writes schemas and programs, and hardly an answer is paid.
EXAMPLE = (
    "What is the weather in Rome tomorrow?\n\nGive the arguments of the function weather for this,"
    ' as a JSON object that this JSON Schema allows:\n{"required": ["city"], "type": "object",'
    ' "properties": {"city": {"type": "string"}, "day": {"type": "string"}},'
    ' "additionalProperties": false}\nWrite the JSON object only.',
    '{"city": "Rome", "day": "tomorrow"}',
)
MAX_SCHEMA = 700  # characters, for prompts of some hundred tokens


def json_rows() -> tuple[list[Row], list[Row]]:
    """Rows ``prompt``, ``schema`` and ``accepted``, to train on and to test with."""
    asked, accepted = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in wheel_files(BFCL, FILES)
    )
    right = {each["id"]: each["ground_truth"][0] for each in accepted}
    train: list[Row] = []
    held: list[Row] = []
    for each in asked:
        ((turn,),) = each["question"]
        (function,) = each["function"]
        schema = _schema(function["parameters"])
        text = json.dumps(schema)
        if len(text) > MAX_SCHEMA:
            continue
        prompt = (
            f"{turn['content']}\n\nGive the arguments of the function {function['name']} for this,"
            f" as a JSON object that this JSON Schema allows:\n{text}\nWrite the JSON object only."
        )
        (accept,) = right[each["id"]].values()
        roles = ("user", "assistant", "user")
        turns = zip(roles, (*EXAMPLE, prompt), strict=True)
        messages = [{"role": role, "content": content} for role, content in turns]
        row = {"prompt": messages, "schema": schema, "accepted": accept}
        digest = hashlib.sha256(turn["content"].encode()).digest()
        is_held = int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT
        (held if is_held else train).append(row)
    return train, held


def _schema(given: Row) -> Row:
    """A parameter of the leaderboard as JSON Schema. Objects have no names but those stated."""
    found = {key: given[key] for key in KEPT if key in given}
    kind = TYPES.get(given.get("type", "any"), given.get("type", "any"))
    if kind != "any":
        found["type"] = kind
    if isinstance(given.get("items"), dict):
        found["items"] = _schema(given["items"])
    if kind == "object" and isinstance(given.get("properties"), dict):
        found["properties"] = {name: _schema(each) for name, each in given["properties"].items()}
        found["additionalProperties"] = False
    return found


def arguments_right(value: Any, accepted: Row) -> bool:
    """Whether each argument is one of those accepted; ``""`` among them: it may be left out."""
    if not isinstance(value, dict) or set(value) - set(accepted):
        return False
    return all(value[k] in some if k in value else "" in some for k, some in accepted.items())
