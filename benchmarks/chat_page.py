"""Twenty plain questions to the default model without any setting, as they are answered.

    python benchmarks/chat_page.py            ask, and write docs/chat.md
    python benchmarks/chat_page.py --print    ask, and print the page

The questions (`questions/chat.txt`) were written down before the default settings were chosen.
They are asked twice: by `lmstack run chat --file`, and through the official OpenAI client from
`lmstack up`, with a model and a message and nothing else. Answers are not edited or chosen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx
import openai
from babble import REPEATS, RUN, babbles

HERE = pathlib.Path(__file__).parent
QUESTIONS = HERE / "questions" / "chat.txt"
PAGE = HERE.parent / "docs" / "chat.md"
MODEL = "smollm2-135m-instruct"
START_S = 300.0
LMSTACK = (sys.executable, "-m", "lmstack")
PREFACE = f"""# Twenty questions to the default model

What `{MODEL}` answers to a person who states nothing but the question. It has 135 million \
parameters: it writes English, and its facts are often wrong. The questions were written down \
before [the default settings](serving.md#what-holds-when-nothing-is-sent) were chosen; the answers \
are neither edited nor chosen. `python benchmarks/chat_page.py` asks again and writes this page.
"""


@dataclass(frozen=True)
class Said:
    text: str
    reason: str


def through_the_command_line() -> list[Said]:
    run = subprocess.run(
        [*LMSTACK, "run", "chat", "--file", str(QUESTIONS)],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    return [Said(row["text"], row["finish_reason"]) for row in rows]


def through_the_client(questions: Sequence[str]) -> list[Said]:
    said = []
    with serving() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        for question in questions:
            answer = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}]
            )
            choice = answer.choices[0]
            said.append(Said(choice.message.content or "", choice.finish_reason))
    return said


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of `lmstack up` over a folder with one page."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as scratch:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        folder = pathlib.Path(scratch, "notes")
        folder.mkdir()
        (folder / "page.md").write_text("# Notes\n\nNothing here yet.\n")
        home = {**os.environ, "XDG_CACHE_HOME": scratch}
        command = [*LMSTACK, "up", str(folder), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=home)
        try:
            wait_for(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit(f"lmstack up did not answer at {url} within {START_S:.0f} s")


PROGRAM = f"""\
```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused")  # lmstack up docs
question = "What is the capital of France?"
answer = client.chat.completions.create(
    model="{MODEL}", messages=[{{"role": "user", "content": question}}]
)
print(answer.choices[0].message.content)
```
"""


def page(questions: Sequence[str], typed: Sequence[Said], sent: Sequence[Said]) -> str:
    babbling = sum(babbles(said.text, said.reason) for said in (*typed, *sent))
    parts = [
        PREFACE,
        f"Of {len(typed) + len(sent)} answers {babbling or 'none'} babbled: an answer does if it "
        f"does not end by itself, or if {RUN} words in a row come {REPEATS} times "
        "(`benchmarks/babble.py`). <!-- measured: benchmarks/chat_page.py -->\n",
        "```sh\nlmstack run chat --file benchmarks/questions/chat.txt\n```\n",
        PROGRAM,
        "Where the two roads were given different answers, both are shown.\n",
    ]
    for question, by_command, by_client in zip(questions, typed, sent, strict=True):
        texts = dict.fromkeys(said.text.strip() for said in (by_command, by_client))
        parts += [f"## {question}\n", *(f"```text\n{text}\n```\n" for text in texts)]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print", action="store_true", help="print the page")
    args = parser.parse_args()
    questions = QUESTIONS.read_text().splitlines()
    text = page(questions, through_the_command_line(), through_the_client(questions))
    if args.print:
        print(text)
    else:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
