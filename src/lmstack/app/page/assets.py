"""The page's files: from the package, each with an ETag, under a strict content policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from lmstack.core import NotFoundError, shown
from lmstack.serve.http.guard import PAGE_CSP, security_headers

__all__ = ["Asset", "has_current", "read_assets", "serve_asset"]

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# The browser itself then refuses any script of ours that would write text as HTML.
POLICY = f"{PAGE_CSP}; require-trusted-types-for 'script'; trusted-types 'none'"


@dataclass(frozen=True, slots=True)
class Asset:
    data: bytes
    media_type: str
    etag: str


def read_assets() -> Mapping[str, Asset]:
    """Every file of the page by its name. Requests are looked up here and never reach a path."""
    assets = {}
    app = resources.files("lmstack.app")
    shared = (app / "report" / name for name in ("tokens.css", "base.css"))
    for file in (*shared, *(app / "page" / "static").iterdir()):
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            data = file.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            assets[file.name] = Asset(data, media_type, etag)
    return assets


def serve_asset(request: Request, assets: Mapping[str, Asset], name: str) -> Response:
    """The file, or 304 where the browser's copy is current. Raises `NotFoundError`."""
    asset = assets.get(name)
    if asset is None:
        raise NotFoundError(f"the page has no file {shown(name)}", hint="open / for the page")
    # `no-cache` keeps a copy but asks each time: after an upgrade no page runs on old modules.
    headers = {
        **security_headers(POLICY),
        "Cache-Control": "no-cache",
        "ETag": asset.etag,
    }
    if has_current(request, asset.etag):
        return Response(status_code=304, headers=headers)
    return Response(asset.data, headers=headers, media_type=asset.media_type)


def has_current(request: Request, etag: str) -> bool:
    """Whether the browser has what ``etag`` names."""
    sent = request.headers.get("if-none-match", "").split(",")
    return etag in [tag.strip().removeprefix("W/") for tag in sent]
