"""Where stores of every kind can be opened in tests, each call at a place of its own."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.postgres import postgres_server
from tests.rag.stores import fake_pinecone, fake_qdrant, fake_weaviate
from tests.rag.stores.fake_pinecone import FakePinecone
from tests.rag.stores.fake_qdrant import FakeQdrant
from tests.rag.stores.fake_weaviate import FakeWeaviate
from tests.rag.stores.fakes import serve
from tests.rag.stores.model import DIMENSIONS

__all__ = ["KINDS", "NAMES", "Place", "Places", "in_turn"]

NAMES = ("chroma", "chroma-server", "postgres", "qdrant", "weaviate", "pinecone")
KINDS = [pytest.param(kind, id=kind) for kind in NAMES]


def in_turn(kinds: Sequence[str], forms: Sequence[str]) -> list[Any]:
    """Parameters (kind, form): each kind with one form, the next kind with the next form; the
    other pairs are in the long suite."""
    return [
        pytest.param(
            kind,
            form,
            marks=() if number % len(forms) == place else pytest.mark.long,
            id=f"{kind}-{form}",
        )
        for number, kind in enumerate(kinds)
        for place, form in enumerate(forms)
    ]


@dataclass(frozen=True)
class Place:
    """``shared``: by several processes at once. ``fake``: its server is one of the tests'."""

    kind: str
    url: str
    shared: bool = True
    fake: bool = False


class Places:
    """Starts a server when a place on it is first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._numbers = itertools.count()
        self._servers: dict[str, str] = {}

    def new(self, kind: str) -> Place:
        number = next(self._numbers)
        folder = self._folder / f"{kind}{number}"
        match kind:
            case "faiss":
                return Place(kind, f"faiss:{folder}")
            case "chroma":
                return Place(kind, f"chroma:{folder}#name{number}", shared=False)
            case "chroma-server":
                return Place(kind, f"{self._server(kind, chroma_server)}/name{number}")
            case "postgres":
                return Place(kind, f"{self._server(kind, _postgres)}#rows{number}")
            case "qdrant":
                return Place(kind, f"{self._server(kind, _qdrant)}/name{number}", fake=True)
            case "weaviate":
                return Place(kind, f"{self._server(kind, _weaviate)}/Name{number}", fake=True)
            case "pinecone":
                return Place(kind, f"{self._server(kind, _pinecone)}#name{number}", fake=True)
        raise AssertionError(kind)

    def _server(self, kind: str, start) -> str:
        if kind not in self._servers:
            self._servers[kind] = self._stack.enter_context(start(self._folder / kind))
        return self._servers[kind]


def _postgres(folder: Path):
    if not [*Path("/usr/share/postgresql").glob("*/extension/vector.control")]:
        pytest.skip("pgvector is not installed: apt-get install postgresql-17-pgvector")
    return postgres_server()


@contextmanager
def _qdrant(folder: Path) -> Iterator[str]:
    with _environment(QDRANT_API_KEY=fake_qdrant.KEY), serve(FakeQdrant().answer) as host:
        yield f"qdrant+http://{host}"


@contextmanager
def _weaviate(folder: Path) -> Iterator[str]:
    with _environment(WEAVIATE_API_KEY=fake_weaviate.KEY), serve(FakeWeaviate().answer) as host:
        yield f"weaviate+http://{host}"


@contextmanager
def _pinecone(folder: Path) -> Iterator[str]:
    fake = FakePinecone(DIMENSIONS)
    with _environment(PINECONE_API_KEY=fake_pinecone.KEY), serve(fake.answer) as host:
        yield f"pinecone+http://{host}"


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """A real `chroma run` on a free port of this machine."""
    program = Path(sys.executable).with_name("chroma")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    # Its telemetry would wait for hosts that cannot be reached.
    environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
    with subprocess.Popen(command, env=environment, **quiet) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat", server)
            yield f"chroma+http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")
