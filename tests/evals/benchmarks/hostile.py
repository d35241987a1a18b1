"""Completions that try to pass HumanEval's tests without being right."""

from __future__ import annotations

__all__ = ["COMPLETIONS", "PROBLEM", "RIGHT"]

PROBLEM = {
    "task_id": "Test/0",
    "prompt": 'import math\n\n\ndef area(radius):\n    """The area of a circle."""\n',
    "canonical_solution": "    return math.pi * radius ** 2\n",
    "test": "\n\ndef check(candidate):\n    assert abs(candidate(1) - 3.14159265) < 1e-6\n"
    "    assert candidate(0) == 0\n",
    "entry_point": "area",
}
RIGHT = PROBLEM["canonical_solution"]
_PATCH = """    return 0
import builtins, sys
def check(candidate): return None
builtins.check = check
builtins.abs = lambda _: 0
builtins.AssertionError = SystemExit
sys.excepthook = lambda *_: None
"""
_EQUAL = """    class Everything(float):
        __sub__ = __rsub__ = __abs__ = lambda *_: Everything()
        __lt__ = __eq__ = lambda *_: True
    return Everything()
"""
_FRAMES = """    import gc, os, sys
    frame = sys._getframe()
    while frame:
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if isinstance(value, dict) and "nonce" in value:
                os.write(1, value["nonce"].encode())
        frame = frame.f_back
    for each in gc.get_objects():
        if isinstance(each, dict) and "nonce" in each:
            os.write(1, str(each["nonce"]).encode())
    return 0
"""
_GUESS = """    import json, os
    for fd in range(64):
        for text in ('{"nonce": "0", "calls": 2}', "passed", "OK"):
            try:
                os.write(fd, (text + "\\n").encode())
            except OSError:
                pass
    return 0
"""
_READ = """    import glob
    for path in glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/environ") + glob.glob("**/*.py"):
        try:
            text = open(path).read()
        except OSError:
            continue
        if "3.14159265" in text:
            return 3.14159265 * radius
    return 1
"""
_FORK = """    import os
    for _ in range(1000):
        os.fork()
    return 0
"""
_NETWORK = """    import urllib.request
    return float(urllib.request.urlopen("http://127.0.0.1:1/pi", timeout=1).read())
"""
_THREAD = """    import os, threading, time
    threading.Thread(target=lambda: (time.sleep(0.2), os._exit(0))).start()
    time.sleep(0.5)
    return 0
"""
COMPLETIONS = {
    "wrong": "    return radius\n",
    "exit with success": "    import sys\n    sys.exit(0)\n",
    "exit at once": "    import os\n    os._exit(0)\n",
    "exit when imported": "    return 0\nimport os\nos._exit(0)\n",
    "exit at the end": "    return 0\nimport atexit, os\natexit.register(os._exit, 0)\n",
    "raise SystemExit": "    raise SystemExit(0)\n",
    "patched check": _PATCH,
    "equal to everything": _EQUAL,
    "looks for the nonce": _FRAMES,
    "guesses the verdict": _GUESS,
    "reads the tests": _READ,
    "fork bomb": _FORK,
    "network": _NETWORK,
    "exit from a thread": _THREAD,
    "huge output": "    print('passed' * (1 << 22))\n    return 0\n",
    "no end": "    while True:\n        pass\n",
    "much memory": "    return len(bytearray(1 << 40))\n",
    "no Python": "    return (\n",
    "kills everything": "    import os\n    os.kill(-1, 9)\n",
    "not a number": "    return float('nan')\n",
}
