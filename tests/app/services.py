"""What `lmstack up` serves, built in this process from small parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmstack.app import wiring
from lmstack.app.server.access import KeyEntry
from lmstack.app.server.serve import Service
from lmstack.app.wiring.build import build_service
from lmstack.app.wiring.tasks import Also
from lmstack.core import ChatModel
from lmstack.release.traffic import Traffic
from lmstack.serve.http.app import LOCAL_HOSTS

__all__ = ["local_service"]


def local_service(
    docs: Path,
    model: ChatModel,
    embedder: Any,
    keys: tuple[str, ...] = (),
    also: Also | None = None,
    entries: tuple[KeyEntry, ...] = (),
    uploads: bool = False,
    traffic: Callable[..., Traffic] | None = None,
) -> Service:
    """``docs`` and ``model`` for this machine, with the index and the log where `up` has them."""
    return build_service(
        folder=docs,
        index_dir=wiring.index_of(docs),
        audit_path=wiring.audit_path(),
        model=model,
        embedder=embedder,
        api_keys=keys,
        key_entries=entries,
        allowed_hosts=LOCAL_HOSTS,
        close_model=lambda: None,
        also=also,
        uploads=uploads,
        traffic=traffic,
    )
