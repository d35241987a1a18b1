"""A model of one's own, from text files to a server, by the commands of docs/training.md.

    python benchmarks/own_model.py              an hour on one core
    python benchmarks/own_model.py --quick      four steps of each training; records nothing

The commands are those of the page, typed in a folder and a home of their own. The server is asked
once. What was reached is in the lineage of both models.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

from machine import machine
from recording import add_options, result_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECTION = "## A model of your own"
PORT = 8137


def commands() -> list[list[str]]:
    """Of the section's first block."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split(SECTION)[1]
    return [shlex.split(line) for line in text.split("```sh\n")[1].split("```")[0].splitlines()]


def served(words: list[str], folder: pathlib.Path, env: dict[str, str]) -> dict[str, Any]:
    """Seconds until the server answers, and what it says."""
    process = subprocess.Popen([*words, "--port", str(PORT)], cwd=folder, env=env)
    question = {"role": "user", "content": "Hi, how are you?"}
    body = json.dumps({"model": words[-1], "messages": [question], "max_tokens": 40}).encode()
    url, kind = f"http://127.0.0.1:{PORT}/v1/chat/completions", {"Content-Type": "application/json"}
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{shlex.join(words)} ended before it served")
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(url, body, kind), timeout=60
                ) as answer:
                    said = json.load(answer)["choices"][0]["message"]["content"]
                    return {"question": question["content"], "answer": said}
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server did not answer within a minute")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "own_model")
    args = parser.parse_args()
    steps: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in ("recipes", "examples"):
            (folder / name).symlink_to(ROOT / name)
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "LMSTACK_HOME": str(folder / "home"), "PATH": path}
        subprocess.run(["lmstack", "pull", "--quiet"], check=True, env=env)
        for words in commands():
            if args.quick and words[1] == "train":
                words += ["steps=4", "eval_every=4"]
            step: dict[str, Any] = {"command": shlex.join(words)}
            started = time.perf_counter()
            if words[1] == "up":
                step |= served(words, folder, env)
            else:
                done = subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
                if done.returncode:
                    raise SystemExit(f"{step['command']} failed")
                lines = done.stdout.replace(str(folder), ".").splitlines()
                step["said"] = lines[-12:]
            step["seconds"] = round(time.perf_counter() - started, 1)
            print(f"{step['seconds']:8.1f} s  {step['command']}", flush=True)
            steps.append(step)
    total = sum(step["seconds"] for step in steps)
    print(f"{total:8.1f} s in all")
    result = {"machine": machine(), "seconds": total, "steps": steps}
    result_file(args, "own_model").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
