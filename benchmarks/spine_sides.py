"""What each side of `spine.py` does in its own process: prints {"figure": number}.

Not for use by hand: python benchmarks/spine_sides.py SIDE MEASUREMENT WEIGHTS full|quick
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """Tokens that are decoded, and of a prompt that is read; streams at once, and tokens of the
    prompt and the answer of each; texts of each length; files of the index."""

    new: int = 128
    prompt: int = 1024
    streams: int = 32
    each: int = 64
    short_texts: int = 600
    long_texts: int = 120
    files: int = 300


SIZES = {"full": Size(), "quick": Size(16, 128, 4, 16, 40, 8, 20)}
SIZE = SIZES[sys.argv[4] if len(sys.argv) > 4 else "full"]


def corpus() -> str:
    return "\n\n".join(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))


def prompts(count: int, length: int, encode: Callable[[str], Sequence[int]]) -> list[Ids]:
    """``count`` prompts of ``length`` ids that share no prefix."""
    ids = list(encode(corpus()))
    step = (len(ids) - length) // max(count, 1)
    return [tuple(ids[i * step : i * step + length]) for i in range(count)]


def texts(tokens: int, count: int) -> list[str]:
    """Pieces of the docs of about ``tokens`` tokens (three quarters as many words)."""
    words = corpus().split()
    size = tokens * 6 // 10
    return [" ".join(words[(i * 7) % (len(words) - size) :][:size]) for i in range(count)]


def texts_of(name: str) -> list[str]:
    if name == "embed_short":
        return texts(30, SIZE.short_texts)
    return texts(200, SIZE.long_texts)


def rate(work: int, run: Callable[[], object], warm: int = 1) -> float:
    for _ in range(warm):
        run()
    start = time.perf_counter()
    run()
    return work / (time.perf_counter() - start)


# --- lmstack -----------------------------------------------------------------------------


def lmstack_generation(name: str) -> float:
    from lmstack.core import Request, SamplingParams
    from lmstack.serve import LocalModel

    model = LocalModel.load(MODEL)

    async def one(prompt: Ids, new: int) -> float:
        """Generate ``new`` tokens; seconds to the first one."""
        sampling = SamplingParams(max_tokens=new, temperature=0, ignore_eos=True)
        request = Request(prompt=prompt, sampling=sampling)
        first = 0.0
        async for delta in model.stream(request):
            if delta.timings is not None:
                first = delta.timings.first_token_s
            if delta.usage is not None and delta.usage.completion_tokens != new:
                raise SystemExit(f"{delta.usage.completion_tokens} tokens instead of {new}")
        return first

    async def many(batch: Sequence[Ids], new: int) -> None:
        await asyncio.gather(*(one(p, new) for p in batch))

    encode = model.tokenizer.encode
    try:
        if name == "ttft":
            warm, timed = prompts(2, 200, encode)
            asyncio.run(one(warm, 4))
            return asyncio.run(one(timed, 4))
        if name == "decode":
            # The second run of a prompt has its prefix cached; 16 tokens cost next to nothing.
            prompt = prompts(1, 16, encode)[0]
            return rate(SIZE.new, lambda: asyncio.run(one(prompt, SIZE.new)))
        if name == "prefill":
            warm, timed = prompts(2, SIZE.prompt, encode)
            asyncio.run(one(warm, 1))
            return rate(SIZE.prompt, lambda: asyncio.run(one(timed, 1)), warm=0)
        streams, each = SIZE.streams, SIZE.each
        batch = prompts(2 * streams, each, encode)
        asyncio.run(many(batch[:streams], 8))
        return rate(streams * each, lambda: asyncio.run(many(batch[streams:], each)), warm=0)
    finally:
        model.close()


def lmstack_embedding(name: str) -> float:
    from lmstack.serve import LocalEmbedder

    embedder = LocalEmbedder.load(EMBEDDER, weights="float32")
    if name == "index":
        return lmstack_index(embedder)
    batch = texts_of(name)
    return rate(len(batch), lambda: embedder.embed(batch))


def index_files(folder: pathlib.Path) -> int:
    """Small documents; the number of files. Each paragraph is numbered, since passages that
    are equal would be embedded once."""
    source = corpus()
    size = 1500
    for i in range(SIZE.files):
        start = (i * 377) % (len(source) - size)
        text = source[start : start + size].replace("\n\n", f"\n\nNote {i}. ")
        (folder / f"{i:03}.md").write_text(f"Note {i}. {text}")
    return SIZE.files


def lmstack_index(embedder: object) -> float:
    from lmstack.rag import Index

    embedder.embed(["warm"] * 8)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "files"
        folder.mkdir()
        index_files(folder)
        index = Index.open(pathlib.Path(scratch) / "index", embedder)
        start = time.perf_counter()
        index.update([folder])
        seconds = time.perf_counter() - start
        chunks = index.status().chunks
        index.close()
    return chunks / seconds


# --- transformers ------------------------------------------------------------------------


def transformers_generation(name: str, weights: str) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.bfloat16)

    def generate(batch: Sequence[Ids], new: int) -> None:
        ids = torch.tensor(batch)
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )

    def encode(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    if name == "ttft":
        warm, timed = prompts(2, 200, encode)
        generate([warm], 4)
        return 1 / rate(1, lambda: generate([timed], 1), warm=0)
    if name == "decode":
        prompt = prompts(1, 16, encode)[0]
        return rate(SIZE.new, lambda: generate([prompt], SIZE.new))
    if name == "prefill":
        warm, timed = prompts(2, SIZE.prompt, encode)
        generate([warm], 1)
        return rate(SIZE.prompt, lambda: generate([timed], 1), warm=0)
    streams, each = SIZE.streams, SIZE.each
    batch = prompts(2 * streams, each, encode)
    generate(batch[:streams], 8)
    return rate(streams * each, lambda: generate(batch[streams:], each), warm=0)


def sentence_transformers_embedding(name: str) -> float:
    from sentence_transformers import SentenceTransformer

    from lmstack.registry import Store

    model = SentenceTransformer(str(Store().resolve(EMBEDDER).path))

    def encode(batch: Sequence[str]) -> None:
        model.encode(list(batch), batch_size=32, show_progress_bar=False)

    if name == "index":
        with tempfile.TemporaryDirectory() as scratch:
            batch = index_chunks(pathlib.Path(scratch))
    else:
        batch = texts_of(name)
    return rate(len(batch), lambda: encode(batch))


class Recorder:
    """An embedder that remembers the passages it was given, and gives vectors of no meaning."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self.passages: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, texts: Sequence[str], kind: str = "passage") -> Any:  # noqa: ARG002
        self.passages += texts
        vectors = np.zeros((len(texts), self._embedder.dimensions), np.float32)
        vectors[:, 0] = 1
        return vectors


def index_chunks(scratch: pathlib.Path) -> list[str]:
    """The chunks that `lmstack_index` makes, for the peer to embed and nothing more."""
    from lmstack.rag import Index
    from lmstack.serve import LocalEmbedder

    folder = scratch / "files"
    folder.mkdir()
    index_files(folder)
    recorder = Recorder(LocalEmbedder.load(EMBEDDER, weights="float32"))
    with Index.open(scratch / "index", recorder) as index:
        index.update([folder])
    return recorder.passages


# --- one figure --------------------------------------------------------------------------

STARTUP = {
    "lmstack": (
        "import lmstack\n"
        f"with lmstack.load({MODEL!r}) as m: m.generate('Hello', max_tokens=1, temperature=0)"
    ),
    "transformers": (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)\n"
        "m.generate(**t('Hello', return_tensors='pt'), max_new_tokens=1, do_sample=False)"
    ),
}


def startup(side: str, weights: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", STARTUP[side], weights], check=True, capture_output=True)
    return time.perf_counter() - start


def figure(side: str, name: str, weights: str) -> float:
    if name == "startup":
        return startup(side, weights)
    if side == "lmstack":
        generation = name in ("ttft", "decode", "prefill", "streams")
        return lmstack_generation(name) if generation else lmstack_embedding(name)
    if side == "transformers":
        return transformers_generation(name, weights)
    return sentence_transformers_embedding(name)


if __name__ == "__main__":
    print(json.dumps({"figure": figure(*sys.argv[1:4])}))
