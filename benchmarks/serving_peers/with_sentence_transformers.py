"""sentence-transformers' side of `serving.py`, in the precision that the job names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from side import Job, main, rates, threads


def embed(dtype: str, name: str, job: Job) -> dict[str, Any]:
    torch.set_num_threads(threads())
    model = SentenceTransformer(
        job["paths"]["minilm"], device="cpu", model_kwargs={"dtype": getattr(torch, dtype)}
    )
    task = job[name]

    def run(texts: Sequence[str]) -> np.ndarray:
        return model.encode(
            list(texts), batch_size=32, show_progress_bar=False, convert_to_tensor=True
        )

    np.save(task["vectors"][f"sentence_transformers_{dtype}"], run(task["texts"]).float().numpy())
    return {"figures": rates(len(task["texts"]), [lambda: run(task["texts"])] * task["repeats"])}


if __name__ == "__main__":
    DTYPE = sys.argv.pop(1)
    main(
        {
            "embed_short": lambda job: embed(DTYPE, "embed_short", job),
            "embed_long": lambda job: embed(DTYPE, "embed_long", job),
        }
    )
