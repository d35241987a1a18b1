"""Seconds of an answer: the quotation, the first and the last written word; beside llama.cpp.

    python benchmarks/answer_seconds.py             some ten minutes on two quiet cores
    python benchmarks/answer_seconds.py --quick     two questions of one row; records nothing

The model that writes is warm, as in `lmstack up`. Each question of these pages in
`questions/first.jsonl` is asked with 3 (the default), 4, 6 and 10 passages: when the quotation
stands there, when the first checked sentence does, and when the last one does, the model's own
questions about sentences included. Then llama.cpp's server (xllamacpp) gets the very token ids of
those prompts, from the same file, both may keep what prompts share, and its own figures say when it
had read the prompt and written its answer, which nobody checks. The same model of ours is asked so
too. Medians over the questions; questions whose quotation is no answer are left out, since the
model is asked less there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from first_questions import DOCS, PAGE, QUESTIONS
from machine import machine
from recording import add_options, result_file
from serving_environments import PEERS, SCRIPTS, build, versions
from serving_models import quiet_environment

from lmstack.app import wiring
from lmstack.app.wiring import documents, retrieval
from lmstack.core import ChatModel, Delta, ModelInfo, Request, close_model
from lmstack.rag import Answerer, OutcomeKnown, QuotesFound, TextDelta
from lmstack.rag.answer.answer import usual_answers
from lmstack.registry import Store
from lmstack.serve.tokens import prompt_ids

MODEL = "qwen2.5-coder-1.5b-instruct"
PASSAGES = (3, 4, 6, 10)
PEER = PEERS["xllamacpp"]


class Remembering:
    """A model, and the requests for texts that it was sent."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self.requests: list[Request] = []

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        if request.sampling.max_tokens != 1:
            self.requests.append(request)
        return self._model.stream(request)


async def asked(answerer: Answerer, question: str) -> dict[str, float] | None:
    """Seconds from the question on; None where nothing is written."""
    started, found = time.perf_counter(), dict[str, float]()
    written = False
    async for event in answerer.stream(question):
        now = time.perf_counter() - started
        if isinstance(event, QuotesFound):
            found.setdefault("quotation", now)
        elif isinstance(event, OutcomeKnown):
            written = not event.reason and event.outcome == "answer"
        elif isinstance(event, TextDelta) and event.text.strip():
            found.setdefault("first word", now)
    found["last word"] = time.perf_counter() - started
    return found if written and len(found) == 3 else None


async def written(model: ChatModel, request: Request) -> dict[str, float]:
    """The text alone, unchecked."""
    started, first, tokens = time.perf_counter(), 0.0, 0
    async for delta in model.stream(request):
        first = first or (delta.text and time.perf_counter() - started) or 0.0
        tokens = delta.usage.completion_tokens if delta.usage else tokens
    return {"first word": first, "last word": time.perf_counter() - started, "tokens": tokens}


def by_llama_cpp(path: str, prompts: Sequence[Sequence[int]], new: int) -> list[dict[str, float]]:
    job = {"paths": {"gguf": path}, "answers": {"prompts": prompts, "new": new}}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "job.json"
        file.write_text(json.dumps(job))
        command = [str(PEER.python), str(SCRIPTS / PEER.script), "measure", str(file), "answers"]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=quiet_environment(2)
        )
    found = json.loads(done.stdout.strip().splitlines()[-1])["answers"]
    if "error" in found:
        raise SystemExit(f"llama.cpp: {found['error']}")
    answers: list[dict[str, float]] = found["figures"]
    return answers


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}


def measure(questions: Sequence[str], passages: Sequence[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        model = wiring.generator(MODEL)
        stack.callback(close_model, model)
        reranker = retrieval.answer_reranker(print)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        index = stack.enter_context(documents.open_index(scratch, None, create=True))
        index.update([page for page in DOCS.glob("*.md") if page != PAGE])
        for shown in passages:
            remembering = Remembering(model)
            config = replace(usual_answers(model.info), shown=shown, passages=max(shown, 5))
            answerer = Answerer(index, remembering, config, reranker=reranker)
            asyncio.run(asked(answerer, "What is lmstack?"))  # Warm.
            remembering.requests.clear()
            answers, requests = [], []
            for question in questions:
                found = asyncio.run(asked(answerer, question))
                if found is not None:
                    answers.append(found)
                    requests.append(remembering.requests[-1])
            alone = [asyncio.run(written(model, request)) for request in requests]
            ids = [
                list(prompt_ids(r, model.tokenizer, model.template, encodes=False))
                for r in requests
            ]
            new = requests[0].sampling.max_tokens or 512
            rows.append(
                {
                    "passages": shown,
                    "questions": len(answers),
                    "prompt tokens": statistics.median(map(len, ids)),
                    "lmstack ask": medians(answers),
                    "lmstack, the text alone": medians(alone),
                    "prompts": ids,
                    "new": new,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "answer_seconds")
    args = parser.parse_args()
    build(PEER)
    lines = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines() if line]
    questions = [line["question"] for line in lines if line["about"] == "docs"]
    if args.quick:
        questions = questions[:2]
    rows = measure(questions, PASSAGES[:1] if args.quick else PASSAGES)
    gguf = Store().resolve(MODEL).gguf
    for row in rows:
        peer = by_llama_cpp(str(gguf), row.pop("prompts"), row.pop("new"))
        row["llama.cpp, the text alone"] = medians(peer)
        ratio = row["llama.cpp, the text alone"]["last word"] / row["lmstack ask"]["last word"]
        row["ratio"] = round(ratio, 2)
        print(json.dumps(row, indent=1), flush=True)
    result = {"machine": machine(), "peer": versions(PEER), "model": MODEL, "rows": rows}
    result_file(args, "answer_seconds").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
