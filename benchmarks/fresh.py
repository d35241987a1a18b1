"""What a newcomer waits for: a fresh clone, an empty store.

    python benchmarks/fresh.py            make demo, then ask and up without a network
    python benchmarks/fresh.py --test     make test as well

Only what is committed is measured. Sizes are those on disk, of the environment and of the model
store: pip does not say what it downloaded. The network is taken away with Linux's `unshare --net`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Mapping

from spine import HERE, processor

OFFLINE = """
ip link set lo up
.venv/bin/lmstack --json ask "Why are pickle files refused?" --docs docs > "$HOME/ask.json"
.venv/bin/lmstack up docs --port 8765 > "$HOME/up.log" 2>&1 &
server=$!
for _ in $(seq 300); do
  .venv/bin/python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz')" \
    2>/dev/null && break
  sleep 0.1
done
.venv/bin/python - <<'PY'
import json, os, urllib.request
body = {"model": "docs", "messages": [{"role": "user", "content": "Why are pickle files refused?"}]}
request = urllib.request.Request(
    "http://127.0.0.1:8765/v1/chat/completions",
    json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as response, open(os.environ["HOME"] + "/up.json", "wb") as f:
    f.write(response.read())
PY
kill -INT $server
wait $server || test $? = 130
"""


def size(folder: pathlib.Path) -> int:
    """Bytes of the files below ``folder``."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())


def timed(command: list[str], cwd: pathlib.Path, env: Mapping[str, str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--test", action="store_true", help="also make test")
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results" / "fresh.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = pathlib.Path(scratch)
        clone = home / "lmstack"
        env = os.environ | {
            "HOME": str(home),
            "LMSTACK_HOME": str(home / "store"),
            "LMSTACK_TEST_HOME": str(home / "test-store"),
            "PIP_CACHE_DIR": str(home / "pip"),
        }
        subprocess.run(["git", "clone", "-q", str(HERE.parent), str(clone)], check=True)
        seconds, output = timed(["make", "demo"], clone, env)
        print(output)
        result = {
            "machine": processor(),
            "demo_seconds": seconds,
            "environment_bytes": size(clone / ".venv"),
            "store_bytes": size(home / "store"),
        }
        result["demo_again_seconds"], _ = timed(["make", "demo"], clone, env)
        result["offline_seconds"], _ = timed(
            ["unshare", "--net", "bash", "-ec", OFFLINE], clone, env
        )
        asked = json.loads((home / "ask.json").read_text())
        served = json.loads((home / "up.json").read_text())
        result["offline_answer"] = asked["answer"]
        result["offline_served"] = served["choices"][0]["message"]["content"]
        if args.test:
            result["test_seconds"], output = timed(["make", "test"], clone, env)
            print(output[-2000:])
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
