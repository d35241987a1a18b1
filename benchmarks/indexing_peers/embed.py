"""A peer's side of `indexing.py`, in the peer's own environment: the passages to vectors.

Not for use by hand: embed.py convert|measure JOB

`convert` writes the model in the form that the side runs. `measure` loads the model, embeds some
passages to warm up, then slices of all of them, each sorted by length, until all are done or the
time is up; it writes the vectors and prints {"texts": N, "seconds": S}.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "serving_peers"))

Job = dict[str, Any]
Embed = Callable[[Sequence[str]], np.ndarray]
SLICE, WARM = 1024, 64


def sentence_transformers(job: Job) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(job["threads"])
    model = SentenceTransformer(
        job["model"], device="cpu", model_kwargs={"dtype": getattr(torch, job["form"])}
    )

    def embed(texts: Sequence[str]) -> np.ndarray:
        found = model.encode(
            list(texts), batch_size=32, show_progress_bar=False, convert_to_tensor=True
        )
        return found.float().numpy()

    return embed


def onnxruntime(job: Job) -> Embed:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    name = {"float32": "fused.onnx", "int8": "int8.onnx"}[job["form"]]
    session = onnxruntime.InferenceSession(
        str(pathlib.Path(job["converted"]) / name), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]
    return padded(job, lambda feed: session.run(["states"], {key: feed[key] for key in names})[0])


def openvino(job: Job) -> Embed:
    import openvino

    model = pathlib.Path(job["converted"]) / job["form"] / "openvino_model.xml"
    settings = {"INFERENCE_NUM_THREADS": job["threads"]}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    names = [one.get_any_name() for one in compiled.inputs]
    return padded(job, lambda feed: compiled({key: feed[key] for key in names})[0])


def padded(job: Job, states: Callable[[Any], np.ndarray]) -> Embed:
    import padded as batches
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pathlib.Path(job["model"]) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job["max_tokens"])
    return lambda texts: batches.vectors_of(tokenizer, states, texts)


def convert(job: Job) -> None:
    target = pathlib.Path(job["converted"])
    if job["library"] == "onnxruntime":
        import with_onnxruntime

        with_onnxruntime.convert({"paths": {"minilm": job["model"], "onnxruntime": str(target)}})
        return
    exporter = pathlib.Path(sys.executable).with_name("optimum-cli")
    for form, name in (("float32", "fp32"), ("int8", "int8")):
        command = [exporter, "export", "openvino", "--model", job["model"]]
        command += ["--task", "feature-extraction", "--weight-format", name, target / form]
        subprocess.run([str(part) for part in command], check=True)


LIBRARIES = {
    "sentence_transformers": sentence_transformers,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}


def measure(job: Job) -> dict[str, Any]:
    texts = json.loads(pathlib.Path(job["texts"]).read_text())
    embed = LIBRARIES[job["library"]](job)
    embed(texts[:WARM])
    parts = []
    start = time.perf_counter()
    for first in range(0, len(texts), SLICE):
        parts.append(embed(texts[first : first + SLICE]))
        if time.perf_counter() - start > job["seconds"]:
            break
    seconds = time.perf_counter() - start
    vectors = np.concatenate(parts)
    np.save(job["vectors"], vectors)
    return {"texts": len(vectors), "seconds": seconds}


if __name__ == "__main__":
    ACTION, PATH = sys.argv[1:]
    JOB = json.loads(pathlib.Path(PATH).read_text())
    if ACTION == "convert":
        convert(JOB)
    else:
        print("\n" + json.dumps(measure(JOB)), flush=True)
        # Libraries with threads of their own may hang while the interpreter ends.
        os._exit(0)
