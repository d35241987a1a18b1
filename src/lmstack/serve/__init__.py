"""Models behind core's protocols, and core's protocols behind HTTP.

Names are looked up when they are used: `LocalModel` and `LocalEmbedder` run weights on this
machine and load torch; `create_app` and `run_server` know no tensors, and load a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.serve.embedder import LocalEmbedder
    from lmstack.serve.http.app import LOCAL_HOSTS, create_app
    from lmstack.serve.http.body import MAX_BODY_BYTES, read_body, read_json
    from lmstack.serve.http.errors import error_body, error_response
    from lmstack.serve.http.guard import API_CSP, PAGE_CSP, client_of_key, security_headers
    from lmstack.serve.http.mapping import Caller
    from lmstack.serve.http.server import run_server
    from lmstack.serve.http.state import caller_of
    from lmstack.serve.http.streams import until_gone
    from lmstack.serve.local import LocalModel, open_model

__all__ = [
    "API_CSP",
    "LOCAL_HOSTS",
    "MAX_BODY_BYTES",
    "PAGE_CSP",
    "Caller",
    "LocalEmbedder",
    "LocalModel",
    "caller_of",
    "client_of_key",
    "create_app",
    "error_body",
    "error_response",
    "open_model",
    "read_body",
    "read_json",
    "run_server",
    "security_headers",
    "until_gone",
]

__getattr__, __dir__ = lazy_names(__name__)
