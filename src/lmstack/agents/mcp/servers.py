"""A server whose tools an agent may use: how it is reached, and what it is trusted with.

Covers programs that are started here (stdio) and servers at a URL (streamable HTTP). Does not cover
OAuth: a key is a header.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from lmstack.core import Config, InputError, allowed, shown

__all__ = ["McpServer"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class McpServer(Config):
    """``name``: of letters, digits and -; the tools' names begin with it. Either ``command`` with
    its ``arguments``, its ``environment`` (of ours it sees no more than PATH, HOME and their like)
    and the ``folder`` that it is started in, or ``url`` with ``headers``, for a key.

    ``safe``: tools, as the server calls them, that need no approval of each call; what a server
    says about itself there is not believed. ``timeout_s``: of a call, ``connect_s``: of connecting
    and listing. ``max_tools``: a server that lists more is refused. ``max_chars``: of a result."""

    name: str
    command: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    folder: Path | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    safe: tuple[str, ...] = ()
    timeout_s: float = allowed(60.0, float, 0, 86_400, above=True)
    connect_s: float = allowed(30.0, float, 0, 3600, above=True)
    max_tools: int = allowed(200, int, 1, 5_000)
    max_chars: int = allowed(20_000, int, 100, 10_000_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("arguments", "safe"):
            object.__setattr__(self, name, tuple(map(str, getattr(self, name))))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            hint = "a name has 1 to 32 small letters, digits and -"
            raise InputError(f"an MCP server has the name {shown(self.name)}", hint=hint)
        if bool(self.command) == bool(self.url):
            state = "both a command and a URL" if self.url else "neither a command nor a URL"
            raise InputError(f"the MCP server {self.name} has {state}", hint="give one of them")
        if self.url:
            self._check_url()

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise InputError(f"{shown(self.url)} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise InputError(f"{shown(self.url)} is not a URL that begins with https:// or http://")
        if parts.username or parts.password:
            problem = f"the URL of {self.name} holds a user name or a password"
            raise InputError(problem, hint="put a key into headers")
        if self.headers and parts.scheme == "http" and not _is_here(parts):
            problem = f"the headers of {self.name} would be sent unencrypted to {shown(host)}"
            raise InputError(problem, hint="use https://")

    @property
    def source(self) -> str:
        """SHA-256 of what runs behind the name: approval is of it too. The environment and the
        headers hold secrets and are no part of it."""
        folder = str(self.folder) if self.folder else ""
        parts = [self.command, list(self.arguments), folder, self.url]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not come back in a text. Short values are settings rather than secrets."""
        values = (*self.environment.values(), *self.headers.values())
        words = [value.removeprefix("Bearer ") for value in values]
        return tuple(word for word in words if len(word) >= 8)


def _is_here(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
