"""A server that speaks MCP by hand, and badly where it is told to. Needs nothing but Python.

``$BEHAVIOUR`` is how it behaves, ``$TOOLS`` a file with what it lists.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEHAVIOUR = os.environ.get("BEHAVIOUR", "plain")


def listed(cursor: str | None) -> dict[str, Any]:
    if BEHAVIOUR == "thousands":
        schema = {"type": "object"}
        return {"tools": [{"name": f"tool_{n}", "inputSchema": schema} for n in range(3000)]}
    if BEHAVIOUR == "endless_pages":
        page = int(cursor or 0) + 1
        tools = [{"name": f"tool_{page}", "inputSchema": {"type": "object"}}]
        return {"tools": tools, "nextCursor": str(page)}
    return {"tools": json.loads(Path(os.environ["TOOLS"]).read_text())}


def child() -> int:
    """A process that outlives this one, and that does not end when it is asked to."""
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", program], stdin=quiet, stdout=quiet).pid


def called(name: str) -> dict[str, Any]:
    if name == "die":
        print("\x1b[31mthe disk is full", file=sys.stderr, flush=True)
        os._exit(3)
    if name == "nonsense":
        return {"content": 3}
    if name == "odd":
        kinds = [
            {"type": "image", "data": "no base64!", "mimeType": "image/png"},
            {"type": "image", "data": "AAAA", "mimeType": "text/html"},
            {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
            {"type": "resource_link", "uri": "file:///a\n\nb", "name": "a"},
            {"type": "resource", "resource": {"uri": "x://a", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "x://a", "blob": "AAAA"}},
        ]
        return {"content": kinds}
    text = str(child()) if name == "leave_a_child" else "called"
    return {"content": [{"type": "text", "text": text}]}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    method, params = request["method"], request.get("params", {})
    if method == "initialize":
        result: dict[str, Any] = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "1"},
        }
    elif method == "tools/list":
        result = listed(params.get("cursor"))
    elif method == "tools/call" and params["name"] == "refuse":
        return {"error": {"code": -32000, "message": f"no such key: {os.environ['KEY']}"}}
    elif method == "tools/call":
        result = called(params["name"])
    else:
        return {"error": {"code": -32601, "message": "no such method"}}
    return {"result": result}


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            reply = {"jsonrpc": "2.0", "id": request["id"], **answer(request)}
            print(json.dumps(reply), flush=True)


def main() -> None:
    if BEHAVIOUR == "ends":
        sys.exit("\x1b[31mno licence found")
    if BEHAVIOUR == "silent":
        time.sleep(600)
    if BEHAVIOUR == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve()
        time.sleep(600)
    while BEHAVIOUR == "endless_line":
        sys.stdout.write("x" * 65536)
    while BEHAVIOUR in ("nonsense", "binary") and sys.stdin.readline():
        data = b"\xff\xfe\n" * 100 if BEHAVIOUR == "binary" else b"This is no JSON \x1b[2J\n"
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    serve()


main()
