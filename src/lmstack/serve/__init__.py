"""Models behind HTTP: the OpenAI-compatible app, the server, and what pages beside it need.

Covers the app (`create_app`) and running it (`run_server`). Models come in through core's
protocols.
"""

from lmstack.serve.errors import error_body, error_response
from lmstack.serve.headers import API_CSP, PAGE_CSP, security_headers
from lmstack.serve.http import create_app
from lmstack.serve.intake import MAX_BODY_BYTES, read_body, read_json
from lmstack.serve.mapping import Caller
from lmstack.serve.server import run_server
from lmstack.serve.serving import caller_of
from lmstack.serve.streams import until_gone

__all__ = [
    "API_CSP",
    "MAX_BODY_BYTES",
    "PAGE_CSP",
    "Caller",
    "caller_of",
    "create_app",
    "error_body",
    "error_response",
    "read_body",
    "read_json",
    "run_server",
    "security_headers",
    "until_gone",
]
