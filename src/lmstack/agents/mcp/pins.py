"""Which descriptions of tools a person has approved.

Each server's are kept with their SHA-256 in a file of its own, which nobody else may read or write;
one that others could write is refused. A tool whose description is not the approved one cannot be
called until it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.agents.mcp.offers import Description, Offer
from lmstack.agents.mcp.servers import McpServer
from lmstack.core import IntegrityError, StoreError
from lmstack.core.files import replaced_file, store_error

__all__ = ["Pins"]

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
