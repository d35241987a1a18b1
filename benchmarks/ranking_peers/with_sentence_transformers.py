"""The vectors of all-MiniLM-L6-v2 by its own library, in float32, for Chroma.

    python with_sentence_transformers.py MODEL_FOLDER INPUT.json FOLDER

INPUT.json holds ``documents`` and ``queries``, lists of texts; FOLDER gets an array of each.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
from sentence_transformers import SentenceTransformer


def main() -> None:
    folder, source, target = (pathlib.Path(each) for each in sys.argv[1:])
    model = SentenceTransformer(str(folder), device="cpu")
    for name, texts in json.loads(source.read_text("utf-8")).items():
        if not (target / f"{name}.npy").exists():
            vectors = model.encode(texts, batch_size=32, show_progress_bar=False)
            np.save(target / f"{name}.npy", np.asarray(vectors, np.float32))


if __name__ == "__main__":
    main()
