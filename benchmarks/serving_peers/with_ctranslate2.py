"""CTranslate2's side of `serving.py`: the encoder-decoder in int8, converted by its own tool."""

from __future__ import annotations

import pathlib
from typing import Any

import ctranslate2
from side import Ids, Job, main, rates, threads
from tokenizers import Tokenizer


def convert(job: Job) -> None:
    from ctranslate2.converters import TransformersConverter

    target = pathlib.Path(job["paths"]["ctranslate2"])
    target.parent.mkdir(parents=True, exist_ok=True)
    TransformersConverter(job["paths"]["t5"]).convert(str(target), quantization="int8", force=True)


def translate(name: str, job: Job) -> dict[str, Any]:
    task = job[name]
    tokenizer = Tokenizer.from_file(str(pathlib.Path(job["paths"]["t5"]) / "tokenizer.json"))
    translator = ctranslate2.Translator(
        job["paths"]["ctranslate2"], compute_type="int8", intra_threads=threads()
    )
    order = sorted(range(len(task["prompts"])), key=lambda i: len(task["prompts"][i]))
    size = 1 if name == "translate_single" else len(order)
    found: dict[int, Ids] = {}

    def run() -> None:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            out = translator.translate_batch(
                [[tokenizer.id_to_token(i) for i in task["prompts"][row]] for row in rows],
                beam_size=1,
                min_decoding_length=task["new"],
                max_decoding_length=task["new"],
            )
            for row, one in zip(rows, out, strict=True):
                found[row] = [tokenizer.token_to_id(token) for token in one.hypotheses[0]]

    run()
    figures = rates(len(order) * task["new"], [run] * task["repeats"])
    return {"figures": figures, "tokens": [found[i] for i in range(len(order))]}


if __name__ == "__main__":
    main(
        {
            "translate_single": lambda job: translate("translate_single", job),
            "translate_batch": lambda job: translate("translate_batch", job),
        },
        convert,
    )
