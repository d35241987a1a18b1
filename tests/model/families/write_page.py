"""Makes the table of docs/families.md of the cases of parity.

Run it as ``python -m tests.model.families.write_page``. A row stands for what `test_parity`
holds: every variant's outputs equal, every folder bit-equal, every trap seen.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import transformers

from .all_cases import CASES
from .gguf_cases import BERT, WRITTEN

PAGE = Path(__file__).resolve().parents[3] / "docs" / "families.md"
_START, _END = "<!-- parity table: generated -->", "<!-- end of the table -->"
_HEADS = {
    "ForCausalLM": "language model",
    "LMHeadModel": "language model",
    "ForMaskedLM": "masked",
    "ForConditionalGeneration": "text to text",
    "MTModel": "text to text",
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "token",
    "ForQuestionAnswering": "span",
    "ForPreTraining": "discriminator",
    "EncoderModel": "encoder",
    "Model": "hidden states",
}


def _head(architecture: str) -> str:
    return next(name for end, name in _HEADS.items() if architecture.endswith(end))


def table() -> str:
    """One row a family, in the order of the cases."""
    groups = defaultdict(list)
    for case in CASES:
        groups[case.family].append(case)
    rows = [
        "| Family | model_type | GGUF | Heads | Settings | Traps |",
        "|---|---|---|---|---|---|",
    ]
    gguf = defaultdict(list)
    for arch, case, _ in (*WRITTEN, ("bert", BERT, "")):
        gguf[case.family].append(arch)
    for family, cases in groups.items():
        types = dict.fromkeys(
            getattr(transformers, case.architecture).config_class.model_type for case in cases
        )
        heads = dict.fromkeys(_head(case.architecture) for case in cases)
        variants = dict.fromkeys(name for case in cases for name in case.names)
        traps = dict.fromkeys(name for case in cases for name in case.traps)
        cells = (
            family,
            ", ".join(f"`{name}`" for name in types),
            ", ".join(f"`{name}`" for name in dict.fromkeys(gguf[family])),
            ", ".join(heads),
            ", ".join(variants),
            "; ".join(traps),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page() -> str:
    """The page as it should be: its prose, and the table of today."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(_START)
    return f"{before}{_START}\n{table()}\n{_END}{rest.split(_END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
