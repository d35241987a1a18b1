"""Models behind core's protocols, and core's protocols behind HTTP.

`LocalModel` and `LocalEmbedder` run weights on this machine and load torch when first asked for;
`create_app` and `run_server` know no tensors.
"""

from typing import TYPE_CHECKING, Any

from lmstack.serve.errors import error_body, error_response
from lmstack.serve.guard import client_of_key
from lmstack.serve.headers import API_CSP, PAGE_CSP, security_headers
from lmstack.serve.http import LOCAL_HOSTS, create_app
from lmstack.serve.intake import MAX_BODY_BYTES, read_body, read_json
from lmstack.serve.mapping import Caller
from lmstack.serve.server import run_server
from lmstack.serve.serving import caller_of
from lmstack.serve.streams import until_gone

if TYPE_CHECKING:
    from lmstack.serve.embedder import LocalEmbedder
    from lmstack.serve.local import LocalModel
    from lmstack.serve.opening import open_model

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

_NEEDS_TORCH = {
    "LocalEmbedder": "lmstack.serve.embedder",
    "LocalModel": "lmstack.serve.local",
    "open_model": "lmstack.serve.opening",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
