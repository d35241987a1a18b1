"""What people wait for when the server is busy: `lmstack up` under load.

    make bench-latency                        about ten minutes
    python benchmarks/latency.py --seconds 20 a shorter look

First 32 requests at a time, which says what the server can do; then arrivals at random times, at
shares of that rate, up to more than it can take; then eight streams while prompts of 6,000
tokens arrive. The load generator runs on the same cores, so the server has less than the machine.
Writes results/latency.json and docs/pictures/latency.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from load import Load, draw, line, run_load
from recording import add_options, picture_file, result_file

LMSTACK = [sys.executable, "-m", "lmstack"]
SHARES = (0.25, 0.5, 0.7, 0.85, 1.1)
STREAMS, LONG_PROMPT = 32, 6000
MODEL = "smollm2-135m-instruct"


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz") as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@contextlib.contextmanager
def server(port: int, weights: str, folder: str) -> Iterator[str]:
    """`lmstack up` with all loaded, at the address that is given."""
    url = f"http://127.0.0.1:{port}"
    command = [*LMSTACK, "up", folder, "--model", MODEL, "--port", str(port)]
    command += ["--weights", weights, "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if is_ready(url):
                break
            if process.poll() is not None:
                raise SystemExit("lmstack up ended before it was ready")
            time.sleep(0.1)
        else:
            raise SystemExit("lmstack up was not ready within a minute")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def beside_long_prompts(url: str, seconds: float, length: int) -> dict[str, Any]:
    """Eight streams, alone and while prompts of about ``length`` tokens arrive."""
    few = Load(streams=8, seconds=seconds)
    alone = run_load(url, MODEL, few)
    long = Load(streams=1, seconds=seconds, prompt_words=length, tokens=16)
    with ThreadPoolExecutor() as pool:
        intruder = pool.submit(run_load, url, MODEL, long, 1)
        beside = run_load(url, MODEL, few)
        intruder.result()
    return {"prompt_words": length, "alone": alone, "beside": beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="of each load")
    parser.add_argument("--weights", default="file", help="form of the weights")
    parser.add_argument("--port", type=int, default=8123)
    add_options(parser, "latency")
    given = parser.parse_args()
    streams, long_prompt = STREAMS, LONG_PROMPT
    if given.quick:
        given.seconds, streams, long_prompt = 3, 4, 600
    file = result_file(given, "latency")
    picture = picture_file(file, "latency.svg")
    from lmstack.app.inspect.processor import processor

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pathlib.Path(folder, "note.md").write_text("The sky is blue.\n")
        url = stack.enter_context(server(given.port, given.weights, folder))
        full = run_load(url, MODEL, Load(streams=streams, seconds=given.seconds))
        print(f"{streams} at a time: {line(full)}", flush=True)
        # A quick run's seconds on a busy machine would else hold no request at the lowest rate.
        least = 2 / given.seconds
        rates = [round(max(least, full["requests_per_s"] * share), 3) for share in SHARES]
        loads = [run_load(url, MODEL, Load(rate=r, seconds=given.seconds)) for r in rates]
        draw(picture, f"{MODEL} at {url}", loads)
        for share, each in zip(SHARES, loads, strict=True):
            print(f"{share:.0%}: {line(each)}", flush=True)
        long = beside_long_prompts(url, given.seconds, long_prompt)
        print(f"8 streams alone: {line(long['alone'])}")
        print(f"8 streams beside long prompts: {line(long['beside'])}")
    result = {
        "machine": str(processor()),
        "weights": given.weights,
        "saturated": full,
        "shares": list(SHARES),
        "loads": loads,
        "long_prompts": long,
    }
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
