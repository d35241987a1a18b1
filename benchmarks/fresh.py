"""What a newcomer waits for: a fresh clone, an empty store.

    python benchmarks/fresh.py                   make demo, then ask and up without a network
    python benchmarks/fresh.py --test            make test as well
    python benchmarks/fresh.py --under all       make demo and make test under every condition of
                                                 other people's machines, in three clones
    python benchmarks/fresh.py --under german umask+home
                                                 a clone for each argument, under one condition
                                                 or several; --only-demo leaves out make test

Only what is committed is measured. Sizes are those on disk, of the environment and of the model
store: pip does not say what it downloaded. The network is taken away with Linux's `unshare --net`.
`conditions.py` says what the conditions are and `fresh_conditions.py` how they are tried.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from conditions import CONDITIONS
from fresh_conditions import TOGETHER, try_conditions
from spine import HERE, processor

# In the clone: one answer by `ask`, one by `up` on $LISTEN, into the folder $OUT.
ANSWER_TWICE = """
.venv/bin/lmstack --json ask "Why are pickle files refused?" --docs docs > "$OUT/ask.json"
.venv/bin/lmstack up docs --host "$LISTEN" --port 8765 > "$OUT/up.log" 2>&1 &
server=$!
until .venv/bin/python -c "import urllib.request as u; u.urlopen('$URL/healthz')" 2>/dev/null; do
  kill -0 $server
  sleep 0.1
done
.venv/bin/python - <<'PY'
import json, os, urllib.request
body = {"model": "docs", "messages": [{"role": "user", "content": "Why are pickle files refused?"}]}
request = urllib.request.Request(
    os.environ["URL"] + "/v1/chat/completions",
    json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as response, open(os.environ["OUT"] + "/up.json", "wb") as f:
    f.write(response.read())
PY
kill -INT $server
wait $server || test $? = 130
"""
ON_IPV4 = "export LISTEN=127.0.0.1 URL=http://127.0.0.1:8765\n" + ANSWER_TWICE
ON_IPV6 = "export LISTEN=::1 URL=http://[::1]:8765\n" + ANSWER_TWICE
OFFLINE = "ip link set lo up\n" + ON_IPV4


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


def newcomer(test: bool) -> dict[str, object]:
    """Seconds, bytes and answers in one fresh clone."""
    with tempfile.TemporaryDirectory() as scratch:
        home = pathlib.Path(scratch)
        clone = home / "lmstack"
        env = os.environ | {
            "HOME": str(home),
            "OUT": str(home),
            "LMSTACK_HOME": str(home / "store"),
            "LMSTACK_TEST_HOME": str(home / "test-store"),
            "PIP_CACHE_DIR": str(home / "pip"),
        }
        subprocess.run(["git", "clone", "-q", str(HERE.parent), str(clone)], check=True)
        seconds, output = timed(["make", "demo"], clone, env)
        print(output)
        result: dict[str, object] = {
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
        if test:
            result["test_seconds"], output = timed(["make", "test"], clone, env)
            print(output[-2000:])
    return result


def under(args: argparse.Namespace) -> None:
    """Each argument of --under in a clone of its own; exit code 1 where one failed."""
    # SIGTERM unwinds as Ctrl-C does: commands that run are ended, and the clone is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runs = [run for each in args.under for run in (TOGETHER if each == "all" else (each,))]
    path = args.json or HERE / "results" / "fresh_conditions.json"
    results = []
    for number, run in enumerate(runs, 1):
        print(f"\n{number} of {len(runs)}: {run}", flush=True)
        logs = HERE.parent / "build" / "fresh"
        results.append(try_conditions(run.split("+"), logs, ON_IPV6, args.only_demo, args.limit))
        write(path, results)
    failed = [run for run, result in zip(runs, results, strict=True) if not result["passed"]]
    print(f"\n{len(runs) - len(failed)} of {len(runs)} passed; {path}")
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


def write(path: pathlib.Path, result: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--test", action="store_true", help="also make test")
    parser.add_argument(
        "--under",
        nargs="+",
        metavar="CONDITION[+CONDITION...]",
        help=f"a fresh clone under each; all: {' '.join(TOGETHER)}; one or more of: "
        + ", ".join(f"{name} ({each.meaning})" for name, each in CONDITIONS.items()),
    )
    parser.add_argument("--only-demo", action="store_true", help="with --under: no make test")
    parser.add_argument(
        "--limit", type=float, default=5400, metavar="SECONDS", help="with --under: of one command"
    )
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    args = parser.parse_args()
    if args.under:
        under(args)
        return
    result = newcomer(args.test)
    write(args.json or HERE / "results" / "fresh.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
