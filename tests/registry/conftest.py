"""A package index and a model hub on 127.0.0.1, and a model small enough to build in a test."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lmstack.registry import Store

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1,
    "hidden_size": 2,
    "intermediate_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "max_position_embeddings": 8,
    "tie_word_embeddings": True,
}
LAYER = "model.layers.0."
# Its tensors, and one that every loader leaves out: it takes the rest.
SHAPES = {
    "model.embed_tokens.weight": [1, 2],
    "model.norm.weight": [2],
    **{f"{LAYER}{name}_layernorm.weight": [2] for name in ("input", "post_attention")},
    **{f"{LAYER}self_attn.{name}_proj.weight": [2, 2] for name in "qkvo"},
    **{f"{LAYER}mlp.{name}_proj.weight": [1, 2] for name in ("gate", "up")},
    f"{LAYER}mlp.down_proj.weight": [2, 1],
}
REST = f"{LAYER}self_attn.rotary_emb.inv_freq"


def safetensors(count: int = 64) -> bytes:
    """The weights of `CONFIG`, ``count`` float32 in all, which do not compress."""
    data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(count // 8 + 1))[: 4 * count]
    used = sum(math.prod(shape) for shape in SHAPES.values())
    header, at = {}, 0
    for name, shape in {**SHAPES, REST: [count - used]}.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def wheel(package: str, version: str, files: dict[str, bytes], metadata: str = "") -> bytes:
    info = f"{package.replace('-', '_')}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{metadata}\n"
    everything = {
        **files,
        f"{info}/METADATA": head.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in everything.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@dataclass
class Site:
    """``files``: path -> bytes. ``drops``: path -> bytes after which the connection breaks, once
    each. ``pace``: path -> seconds between blocks of 64 kB. ``status``: path -> code instead.
    ``compresses``: for clients that take gzip, as many servers do unasked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drops: dict[str, list[int]] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    compresses: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)

    def add_package(
        self, package: str, version: str, data: bytes, sha256: str = "", *, core=True
    ) -> str:
        """Publish a wheel in the simple index; returns its path. ``core``: with its metadata
        beside it (PEP 658), as large indexes do."""
        name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        path = f"/files/{name}"
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = next(n for n in archive.namelist() if n.endswith("/METADATA"))
            self.files[path + ".metadata"] = archive.read(info)
        self.files[path] = data
        digest = sha256 or hashlib.sha256(data).hexdigest()
        mark = 'data-core-metadata="true"' if core else ""
        line = f'<a href="{path}#sha256={digest}" {mark}>{name}</a>\n'
        page = self.files.get(f"/simple/{package}/", b"") + line.encode()
        self.files[f"/simple/{package}/"] = page
        return path

    def starts(self, path: str) -> list[str]:
        """Range headers of the requests for ``path``."""
        return [header for where, header, _ in self.requests if where == path]


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            wanted = self.headers.get("Range", "")
            site.requests.append((path, wanted, self.headers.get("Authorization", "")))
            site.agents.add(self.headers.get("User-Agent", ""))
            if path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = site.files.get(path)
            code = site.status.get(path, 200 if data is not None else 404)
            if code >= 400 or data is None:
                self._answer(code, b"", path)
                return
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if site.ranges else None
            start = int(match[1]) if match else 0
            end = int(match[2]) + 1 if match and match[2] else None
            if match and start >= len(data):
                self._answer(416, b"", path)
                return
            self._answer(206 if match else 200, data[start:end], path)

        def _answer(self, code: int, data: bytes, path: str) -> None:
            squeezed = site.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
            data = gzip.compress(data) if squeezed else data
            self.send_response(code)
            if squeezed:
                self.send_header("Content-Encoding", "gzip")
            kind = "application/octet-stream"
            if path.startswith("/simple/"):
                kind = "text/html"
            elif path.startswith("/api/"):
                kind = "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            limits = site.drops.get(path) or []
            limit = limits.pop(0) if limits and data else len(data)
            for at in range(0, min(limit, len(data)), 65536):
                block = data[at : min(at + 65536, limit)]
                # Before the client can have it, and a test look at the count.
                site.sent[path] = site.sent.get(path, 0) + len(block)
                self.wfile.write(block)
                time.sleep(site.pace.get(path, 0))
            if limit < len(data):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients hang up on purpose here
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def index(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """``site`` as the only package index that pip knows, through pip's own settings."""
    settings = tmp_path / "pip.conf"
    settings.write_text(
        f"[global]\nindex-url = {site.url}/simple/\ntrusted-host = 127.0.0.1\nno-cache-dir = true\n"
        "retries = 0\n"
    )
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return site


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """``site`` as the Hugging Face endpoint."""
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return site


@pytest.fixture(autouse=True)
def no_pause_before_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmstack.registry.sources.download._PAUSE_S", 0.001)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def model_files() -> dict[str, bytes]:
    """A language model of one layer, two channels and no tokenizer."""
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors()}


@pytest.fixture
def model_folder(tmp_path: Path, model_files: dict[str, bytes]) -> Path:
    folder = tmp_path / "my model"
    folder.mkdir()
    for name, data in model_files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def make_wheel():
    return wheel


@pytest.fixture
def make_safetensors():
    return safetensors
