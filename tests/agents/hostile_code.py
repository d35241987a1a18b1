"""Code that tries to pass tests that it does not pass, and programs that try to get out."""

from __future__ import annotations

__all__ = ["ENTRY_POINT", "ESCAPES", "RIGHT", "SPOOFS", "TESTS"]

ENTRY_POINT = "add"
RIGHT = "def add(a, b):\n    return a + b\n"
TESTS = """
def check(candidate):
    assert candidate(1, 2) == 3
    assert candidate([1], [2]) == [1, 2]
    assert all(map(lambda n: candidate(n, n) == 2 * n, range(3)))
    try:
        candidate(1, None)
    except TypeError:
        pass
    else:
        assert False
"""
_WRITE_EVERYWHERE = """
import json, os
for fd in range(64):
    for text in (b'{"nonce": "", "calls": 1}\\n', b'{"started": true}\\n', b"1" * 65536):
        try:
            os.write(fd, text)
        except OSError:
            pass
def add(a, b): return None
"""
_EQUAL_TO_ALL = """
class Everything:
    def __eq__(self, other): return True
    def __getattr__(self, name): return self
def add(a, b): return Everything()
"""
_PATCHED_CHECK = """
import builtins, sys
def check(candidate): pass
builtins.check = check
builtins.AssertionError = type("AssertionError", (BaseException,), {})
sys.excepthook = lambda *_: None
def add(a, b): return None
"""
_FRAMES = """
import gc, sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if isinstance(value, dict) and "nonce" in value:
                print(value["nonce"])
        frame = frame.f_back
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "nonce" in thing:
            return 3
    return None
"""
_TESTS_READ = """
import glob
text = "".join(open(p).read() for p in glob.glob("/box/*") + glob.glob("/tmp/*") if p[-3:] == ".py")
def add(a, b): return 3 if "candidate(1, 2)" in text else None
"""
_DRIVER = """
import sys
wire = sys.modules["inside.wire"]
wire.encoded = lambda value: ["bool", "1"]
def add(a, b): return None
"""
_FLOOD = """
import sys
wire = sys.modules["inside.wire"]
wire.encoded = lambda value: "x" * (5 << 20)
wire.MAX_FRAME = 1 << 40
def add(a, b): return None
"""
# By name: none of them passes `TESTS`.
SPOOFS = {
    "wrong": "def add(a, b):\n    return 3\n",
    "no code": "",
    "no Python": "def add(a, b) return",
    "half a surrogate": "\ud800",
    "a null": "\0",
    "exit with success": "import sys\nsys.exit(0)\n",
    "exit at once": "import os\nos._exit(0)\n",
    "exit in a call": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "raise SystemExit": "def add(a, b):\n    raise SystemExit(0)\n",
    "end the loop of a test": "def add(a, b):\n    raise StopIteration\n",
    "raise what is expected": "def add(a, b):\n    raise TypeError\n",
    "equal to everything": _EQUAL_TO_ALL,
    "patched check": _PATCHED_CHECK,
    "a verdict of its own": _WRITE_EVERYWHERE,
    "looks for the nonce": _FRAMES,
    "reads the tests": _TESTS_READ,
    "patched driver": _DRIVER,
    "a value that is too large": _FLOOD,
    "nested without end": "x = []\nfor _ in range(10**5): x = [x]\ndef add(a, b): return x\n",
    "kills everything": "import os\ndef add(a, b):\n    os.kill(-1, 9)\n",
    "memory": "def add(a, b):\n    return bytearray(1 << 40)\n",
}
_TRY = (
    "try:\n    {0}\nexcept BaseException as error:\n    print('refused:', type(error).__name__)\n"
)
# By name, programs each of whose attempts is refused.
ESCAPES = {
    "fork bomb": "import os; [os.fork() for _ in range(64)]",
    "threads": "import threading; [threading.Thread(target=input).start() for _ in range(64)]",
    "a program": "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])",
    "sockets": "import socket; socket.socket()",
    "local sockets": "import socket; socket.socketpair()",
    "processes": "import os; os.listdir('/proc')",
    "environment": "print(open('/proc/self/environ').read())",
    "passwords": "print(open('/etc/passwd').read())",
    "the root": "open('/x', 'w')",
    "the system": "open('/usr/x', 'w')",
    "the scripts": "open('/box/inside/x', 'w')",
    "the devices": "open('/dev/x', 'w')",
    "a large file": "open('/tmp/x', 'wb').write(bytes(64 << 20))",
    "many files": "[open(f'/tmp/{n}', 'wb').write(bytes(1 << 20)) for n in range(64)]",
    "memory": "bytearray(1 << 40)",
    "higher limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "the first user": "import os; os.setuid(0)",
    "mounts": (
        "import ctypes, os; c = ctypes.CDLL(None, use_errno=True);"
        " assert c.mount(b'x', b'/tmp', b'tmpfs', 0, 0) == 0"
    ),
    "namespaces": (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); assert c.unshare(0x10000000) == 0"
    ),
    "tracing": "import ctypes; c = ctypes.CDLL(None); assert c.ptrace(16, 1, 0, 0) == 0",
}
ESCAPES = {name: _TRY.format(attempt) for name, attempt in ESCAPES.items()}
