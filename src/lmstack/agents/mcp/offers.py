"""What a server offers: its tools as it describes them, made fit for a model and for a person, and
which of them a person has approved.

Covers the digest of a description, names that cannot stand for another tool's, text without hidden
characters, bounds on size and depth, and the text by which a person approves. Whatever a server
says about itself was written by others.

Each server's approved descriptions are kept with their SHA-256 in a file of its own, which nobody
else may read or write; one that others could write is refused. A tool whose description is not the
approved one cannot be called until it is.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmstack.agents.arguments import check_value_schema
from lmstack.agents.mcp.servers import McpServer
from lmstack.agents.tools.results import bounded, exact, plain
from lmstack.core import InputError, IntegrityError, StoreError, Tool, shown
from lmstack.core.files import replaced_file, store_error

__all__ = ["Description", "Offer", "Pins", "describe"]

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


FORMAT = 1


@dataclass(frozen=True)
class _Approved:
    source: str
    tools: Mapping[str, str]


class Pins:
    """The approved descriptions in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)

    def offer(
        self, server: McpServer, offered: Sequence[Description], refused: Mapping[str, str]
    ) -> Offer:
        """What of ``offered`` has not been approved."""
        approved = self._read(server.name)
        names = {each.name for each in offered}
        is_moved = approved.source not in ("", server.source)
        known = {} if is_moved else approved.tools
        return Offer(
            server.name,
            tuple(each for each in offered if each.name not in known),
            tuple(
                (known[each.name], each)
                for each in offered
                if each.name in known and known[each.name] != each.text
            ),
            tuple(name for name in known if name not in names),
            refused,
            is_moved,
        )

    def approve(self, server: McpServer, offered: Sequence[Description]) -> None:
        """Keep ``offered`` as what a person has seen. Tools that are gone are forgotten: back
        again, they are new."""
        tools = {each.name: {"sha256": each.digest, "description": each.text} for each in offered}
        data = {"format": FORMAT, "source": server.source, "tools": tools}
        self._make_folder()
        with replaced_file(self._path(server.name)) as partial:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(partial, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1)

    def forget(self, server: str) -> None:
        """Withdraw the approval of all tools of ``server``."""
        try:
            self._path(server).unlink(missing_ok=True)
        except OSError as error:
            raise store_error(error, self._path(server), "removing") from error

    def _path(self, server: str) -> Path:
        return self._folder / f"{server}.json"

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise store_error(error, self._folder, "making") from error
        _check_owner(self._folder)

    def _read(self, server: str) -> _Approved:
        path = self._path(server)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _Approved("", {})
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError):
                raise store_error(error, path, "reading") from error
            raise _damaged(path) from error
        _check_owner(self._folder)
        _check_owner(path)
        return _parsed(text, path)


def _check_owner(path: Path) -> None:
    """Approvals that somebody else may have written are none."""
    status = path.stat()
    if not hasattr(os, "getuid"):
        return  # no such rights on Windows
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"{path} can be written by others, and holds what you have approved",
            hint=f"look at it, then chmod -R go-w {shlex.quote(str(path))}",
        )


def _parsed(text: str, path: Path) -> _Approved:
    try:
        data: Any = json.loads(text)
        if data["format"] != FORMAT:
            raise _damaged(path)
        tools = {str(name): each["description"] for name, each in data["tools"].items()}
        for name, description in tools.items():
            digest = hashlib.sha256(description.encode()).hexdigest()
            if digest != data["tools"][name]["sha256"]:
                raise _damaged(path)
        return _Approved(str(data["source"]), tools)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is not what was written there",
        hint="remove it, and approve the server's tools again",
    )
