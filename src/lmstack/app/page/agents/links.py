"""Addresses of runs in the server."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["run_link"]


def run_link(run_id: str) -> str:
    return f"/agents/{quote(run_id, safe='')}"
