"""What a server offers: its tools as it describes them, made fit for a model and for a person.

Covers the digest of a description, names that cannot stand for another tool's, text without hidden
characters, bounds on size and depth, and the text by which a person approves. Whatever a server
says about itself was written by others.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.agents.arguments import check_value_schema
from lmstack.agents.tools.texts import bounded, exact, plain
from lmstack.core import InputError, Tool, shown

__all__ = ["Description", "Offer", "describe"]

MAX_BYTES = 32_768
MAX_DEPTH = 32
MAX_DESCRIPTION = 4_000
MAX_NAME = 128
_LETTERS = re.compile(r"[^A-Za-z0-9_-]")
# For people, for OpenAPI, or of an extension: no model needs them, and no grammar knows them.
_DROPPED = ("title", "$comment", "examples", "$schema", "$id", "deprecated")


@dataclass(frozen=True)
class Description:
    """A tool as its server describes it: ``text`` is canonical JSON, ``tool`` what a model is
    shown of it."""

    name: str
    text: str
    tool: Tool

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def describe(server: str, listed: Mapping[str, Any]) -> Description:
    """The description ``listed`` by ``server``, in MCP's JSON. `InputError` says why a tool cannot
    be offered to a model."""
    kept = ("name", "title", "description", "inputSchema", "annotations")
    parts = {key: listed[key] for key in kept if listed.get(key) is not None}
    name, schema = parts.get("name"), parts.get("inputSchema")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(f"a tool has the name {shown(name)}")
    try:
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"its description is not JSON: {error}") from error
    if len(text) > MAX_BYTES:
        raise InputError(f"its description has {len(text):,} bytes, at most {MAX_BYTES:,}")
    if not isinstance(schema, Mapping):
        raise InputError("it has no schema of its arguments")
    description = bounded(plain(str(parts.get("description", ""))).strip(), MAX_DESCRIPTION)
    cleaned = {"type": "object", **_cleaned(schema)}
    check_value_schema("it", cleaned)
    return Description(name, text, Tool(_tool_name(server, name), description, cleaned))


def _tool_name(server: str, name: str) -> str:
    """``server__name`` in the letters that every provider takes. Where letters had to be replaced
    or left out, part of a hash keeps it apart from names that look alike."""
    made = f"{server}__{_LETTERS.sub('_', name)}"
    if len(made) <= 64 and made.endswith(f"__{name}"):
        return made
    return f"{made[:55]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _cleaned(schema: Any, depth: int = 0, *, is_names: bool = False) -> Any:
    """A schema without hidden characters in its texts. Where they are in a name or a value, which
    cannot be changed, or where a schema refers to another document, it is an `InputError`.
    ``is_names``: the keys are names of the tool's own and not keywords."""
    if depth > MAX_DEPTH:
        raise InputError(f"its schema is nested more than {MAX_DEPTH} deep")
    if isinstance(schema, str):
        if plain(schema) != schema:
            raise InputError("its schema holds control or hidden characters")
        return schema
    if isinstance(schema, Sequence):
        return [_cleaned(each, depth + 1) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        _cleaned(key, depth + 1)
        if is_names:
            found[key] = _cleaned(value, depth + 1)
        elif key == "description":
            found[key] = bounded(plain(str(value)), MAX_DESCRIPTION)
        elif key == "$ref" and not str(value).startswith("#"):
            raise InputError(f"its schema refers to {shown(value)}")
        elif key not in _DROPPED and not key.startswith("x-"):
            names = key in ("properties", "$defs", "definitions", "patternProperties")
            found[key] = _cleaned(value, depth + 1, is_names=names)
    return found


@dataclass(frozen=True)
class Offer:
    """What a person has to approve of ``server``: tools that are ``added``, and ``changed`` ones
    with what they were. ``removed``, and ``refused`` with the reasons, are for information.
    ``is_moved``: another program or URL is behind the name than the one that was approved."""

    server: str
    added: tuple[Description, ...] = ()
    changed: tuple[tuple[str, Description], ...] = ()
    removed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_moved: bool = False

    @property
    def needs_approval(self) -> bool:
        return bool(self.added or self.changed or self.is_moved)

    def text(self) -> str:
        """All of it for a person, with hidden characters written out as their code points."""
        lines = [f"MCP server {self.server}"]
        if self.is_moved:
            lines.append("! another command or URL than the one that was approved")
        for each in self.added:
            lines += [f"+ {line}" for line in _lines(each.text)]
        for before, now in self.changed:
            old, new = _lines(before), _lines(now.text)
            lines.append(f"~ {_visible(now.name)}")
            lines += list(difflib.unified_diff(old, new, "approved", "now", lineterm="", n=2))
        lines += [f"- {_visible(name)} is not offered any more" for name in self.removed]
        lines += [
            f"! {_visible(name)} cannot be used: {_visible(why)}"
            for name, why in self.refused.items()
        ]
        return "\n".join(lines)


def _lines(text: str) -> list[str]:
    """A description, with the lines of its texts and the parameters apart."""
    parts = json.loads(text)
    lines = [_visible(str(parts.pop("name", "")))]
    for key in ("title", "description"):
        lines += [f"  {_visible(line)}" for line in str(parts.pop(key, "")).split("\n") if line]
    schema = parts.pop("inputSchema", {})
    properties = schema.pop("properties", {}) if isinstance(schema, dict) else {}
    if isinstance(properties, dict):
        lines += [f"  {_visible(name)}: {_json(each)}" for name, each in properties.items()]
    lines += [
        f"  {_visible(key)}: {_json(each)}" for key, each in (*schema.items(), *parts.items())
    ]
    return lines


def _json(value: Any) -> str:
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    return exact(text, keep="")
