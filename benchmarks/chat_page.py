"""Sixty plain prompts to the default model without any setting, as they are answered.

    python benchmarks/chat_page.py           ask what is not recorded, and write docs/chat.md
    python benchmarks/chat_page.py --page    write the page from what is recorded
    python benchmarks/chat_page.py --again   ask everything anew

Twenty (`questions/chat.txt`) were written down before the default settings were chosen, forty
(`questions/chat.jsonl`, ten of them conversations) before any of them was asked. They are asked
through the official OpenAI client from `lmstack up`, with a model and messages and nothing else.
Answers are not edited or chosen. The verdicts are given by hand, in
`questions/chat_verdicts.jsonl`; one holds for the very answer that was read, so an answer that
changed has none, and its line is printed to be filled in.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import openai
from babble import REPEATS, RUN, babbles
from local_server import lmstack_up
from openai.types.chat import ChatCompletionMessageParam

HERE = pathlib.Path(__file__).parent
QUESTIONS = HERE / "questions" / "chat.txt"
FURTHER = HERE / "questions" / "chat.jsonl"
VERDICTS = HERE / "questions" / "chat_verdicts.jsonl"
RESULT = HERE / "results" / "chat_page.json"
PAGE = HERE.parent / "docs" / "chat.md"
MODEL = "qwen2.5-coder-1.5b-instruct"
FLIGHT = 32  # asked at the same time; greedy answers do not depend on it
KINDS = ("right", "partly", "wrong")
OTHER_LANGUAGES = "other languages"

PREFACE = f"""---
search:
  exclude: true
---

# Sixty prompts to the default model

What `{MODEL}` answers to a person who states nothing but the prompt: no documents, no system \
message, no setting, through the official OpenAI client and `lmstack up`. Twenty short questions, \
ten tasks of an office, twenty prompts in eight other languages, and ten conversations of two or \
three turns. They were written down before any was asked of this model, the first twenty before \
[the default settings](serving.md#defaults-of-sampling) were chosen; answers are \
neither edited nor chosen.

The verdicts are by hand. Right: does what was asked, and nothing in it is false. Partly: most of \
it, with a part left out or a smaller error. Wrong: a main point is false, or it was not done. A \
conversation has one verdict, for all its turns. Babbles, by hand: repeats itself or loses its \
thread. By rule: an answer does not end by itself, or {RUN} words in a row come {REPEATS} times \
(`benchmarks/babble.py`).

`python benchmarks/chat_page.py` asks again and writes this page.
"""
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


@dataclass(frozen=True)
class Prompt:
    """``turns``: of the user. ``expected``: what a right answer has to hold, written beforehand."""

    group: str
    language: str
    turns: tuple[str, ...]
    expected: str = ""

    @property
    def key(self) -> str:
        return self.turns[0]


@dataclass(frozen=True)
class Said:
    text: str
    reason: str
    tokens: int


@dataclass(frozen=True)
class Verdict:
    """By hand. ``said``: the digest of the answers that were read. ``babbles``: repeats itself,
    or loses its thread."""

    prompt: str
    said: str
    verdict: str
    babbles: bool = False
    why: str = ""


Row = tuple[Prompt, Sequence[Said], Verdict]


def read_prompts() -> list[Prompt]:
    short = QUESTIONS.read_text().splitlines()
    plain = [Prompt("English, short questions", "English", (line,)) for line in short]
    rows = [json.loads(line) for line in FURTHER.read_text().splitlines()]
    return plain + [Prompt(**{**row, "turns": tuple(row["turns"])}) for row in rows]


def read_verdicts() -> dict[tuple[str, str], Verdict]:
    if not VERDICTS.exists():
        return {}
    rows = [Verdict(**json.loads(line)) for line in VERDICTS.read_text().splitlines()]
    return {(row.prompt, row.said): row for row in rows}


def read_said() -> dict[str, tuple[Said, ...]]:
    """By first turn; of another model nothing counts."""
    recorded = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if recorded.get("model") != MODEL:
        return {}
    return {key: tuple(Said(**one) for one in row) for key, row in recorded["said"].items()}


def digest(said: Sequence[Said]) -> str:
    return hashlib.sha256("\0".join(one.text for one in said).encode()).hexdigest()[:12]


def ask_all(prompts: Sequence[Prompt], said: dict[str, tuple[Said, ...]]) -> None:
    """Fills ``said``, and records it after each conversation, because a run takes long."""
    with serving() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        sampling = default_sampling(url)
        with ThreadPoolExecutor(FLIGHT) as pool:
            asked = {pool.submit(converse, client, each.turns): each for each in prompts}
            for done in as_completed(asked):
                said[asked[done].key] = done.result()
                record(said, sampling)
                print(f"{len(said)} · {asked[done].key[:60]}", flush=True)


def record(said: Mapping[str, Sequence[Said]], sampling: Mapping[str, Any]) -> None:
    rows = {
        each.key: [asdict(one) for one in said[each.key]]
        for each in read_prompts()
        if each.key in said
    }
    found = {"model": MODEL, "default_sampling": sampling, "said": rows}
    RESULT.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def converse(client: openai.OpenAI, turns: Sequence[str]) -> tuple[Said, ...]:
    messages: list[ChatCompletionMessageParam] = []
    said = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        answer = client.chat.completions.create(model=MODEL, messages=messages, timeout=3600)
        choice = answer.choices[0]
        text = choice.message.content or ""
        messages.append({"role": "assistant", "content": text})
        tokens = answer.usage.completion_tokens if answer.usage else 0
        said.append(Said(text, choice.finish_reason, tokens))
    return tuple(said)


def default_sampling(url: str) -> dict[str, Any]:
    models = httpx.get(f"{url}/v1/models").json()["data"]
    return next(dict(each["default_sampling"]) for each in models if each["id"] == MODEL)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of `lmstack up` with the model alone."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        lmstack_up("--model", MODEL, env={**os.environ, "XDG_CACHE_HOME": scratch}) as url,
    ):
        yield url


def page(
    prompts: Sequence[Prompt],
    said: Mapping[str, Sequence[Said]],
    verdicts: Mapping[tuple[str, str], Verdict],
) -> str:
    def judged(each: Prompt) -> Verdict:
        key = (each.key, digest(said[each.key]))
        return verdicts.get(key, Verdict(*key, "not judged"))

    rows = [(each, said[each.key], judged(each)) for each in prompts]
    parts = [PREFACE, sums(rows), "<!-- measured: benchmarks/chat_page.py -->\n", PROGRAM]
    parts += ["## Each prompt\n", "| | Language | Verdict | Babbles | Tokens | Why |"]
    parts += ["|---|---|---|---|---|---|"]
    for number, (each, answers, verdict) in enumerate(rows, 1):
        link = f"[{number} {shortened(each.key)}](#prompt-{number})"
        tokens = ", ".join(str(one.tokens) for one in answers)
        signs = "by hand" * verdict.babbles, "by rule" * babbling(answers)
        shown = ", ".join(filter(None, signs))
        cells = (link, each.language, verdict.verdict, shown, tokens, verdict.why)
        parts.append(f"| {' | '.join(cells)} |")
    for number, (each, answers, _) in enumerate(rows, 1):
        parts.append(f"\n## Prompt {number}")
        for turn, one in zip(each.turns, answers, strict=True):
            for who, text in ("Asked", turn), ("Answered", one.text.strip()):
                parts.append(f"\n{who}:\n\n````text\n{text}\n````")
            if one.reason != "stop":
                parts.append(f"\nEnded by `{one.reason}`.")
    return "\n".join(parts) + "\n"


def babbling(answers: Sequence[Said]) -> bool:
    """Whether one of them does, by rule."""
    return any(babbles(one.text, one.reason) for one in answers)


def sums(rows: Sequence[Row]) -> str:
    kinds = (*KINDS, *(["not judged"] if any(v.verdict not in KINDS for *_, v in rows) else []))
    lines = [f"| | {' | '.join(kinds)} | babbles, by hand | by rule |"]
    lines.append("|---" * (len(kinds) + 3) + "|")
    for title, of_it in groups(rows):
        counts = [sum(verdict.verdict == kind for *_, verdict in of_it) for kind in kinds]
        counts.append(sum(verdict.babbles for *_, verdict in of_it))
        counts.append(sum(babbling(answers) for _, answers, _ in of_it))
        lines.append(f"| {title} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Each group, the other languages one by one as well, and all."""
    for group in dict.fromkeys(each.group for each, *_ in rows):
        of_it = [row for row in rows if row[0].group == group]
        yield group.capitalize(), of_it
        if group == OTHER_LANGUAGES:
            for name in dict.fromkeys(each.language for each, *_ in of_it):
                yield f"· {name}", [row for row in of_it if row[0].language == name]
    yield "**All**", list(rows)


def shortened(text: str, most: int = 48) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page from what is recorded")
    parser.add_argument("--again", action="store_true", help="ask what is recorded, too")
    args = parser.parse_args()
    said = {} if args.again else read_said()
    missing = [each for each in read_prompts() if each.key not in said]
    if missing and not args.page:
        ask_all(missing, said)
    prompts, verdicts = [each for each in read_prompts() if each.key in said], read_verdicts()
    PAGE.write_text(page(prompts, said, verdicts))
    for each in prompts:
        key = (each.key, digest(said[each.key]))
        if key not in verdicts:
            print(json.dumps(asdict(Verdict(*key, "")), ensure_ascii=False))


if __name__ == "__main__":
    main()
