"""SmolLM2-135M-Instruct with adapters: sixteen in one batch, each as PEFT's and as alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers
from tests.model.peft_pairs import WARNINGS
from tests.oracles import peft
from torch.testing import assert_close

from lmstack.engine import EngineConfig
from lmstack.engine.torch.adapted_ops import AdaptedOps
from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    LoraConfig,
    add_adapter,
    remove_adapter,
    save_adapter,
    write_folder,
)
from lmstack.model.lora.terms import read_terms
from lmstack.registry import Store
from lmstack.serve import LocalModel

MODEL = "smollm2-135m-instruct"
PROMPT = "The capital of France is"
pytestmark = [pytest.mark.long, *WARNINGS]


def write_adapter(model: LocalModel, folder: Path, seed: int, std: float = 0.03) -> Path:
    add_adapter(model.module, LoraConfig(r=8, alpha=16, targets=("q_proj", "v_proj", "down_proj")))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.module.named_parameters():
        if ".terms." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * std)
    save_adapter(model.module, folder)
    remove_adapter(model.module)
    return folder


def test_logits_are_those_of_transformers_with_peft(tmp_path: Path) -> None:
    with LocalModel.load(MODEL, weights="float32", store=Store()) as model:
        adapter = write_adapter(model, tmp_path / "adapter", 1)
        write_folder(model.module, tmp_path / "base")
        terms = read_terms(model.module, adapter)
        ids = torch.tensor(model.tokenizer.encode(PROMPT))
        matrices = {model.module.get_submodule(p): each for p, each in terms.matrices.items()}
        ops = AdaptedOps(REFERENCE_OPS, [(torch.arange(len(ids)), matrices)])
        context = ForwardContext(ops)
        with torch.inference_mode():
            hidden = model.module.varlen_hidden(ids, [len(ids)], context=context)
            found = model.module.logits(hidden, context)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(theirs, adapter).eval()
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
    assert_close(found, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("weights", ["file", "int8"])
def test_sixteen_adapters_in_one_batch_write_what_each_writes_alone(
    tmp_path: Path, weights: str
) -> None:
    engine = EngineConfig(prefix_cache=False)
    with LocalModel.load(MODEL, weights=weights, store=Store(), engine=engine) as model:
        folders = [write_adapter(model, tmp_path / str(seed), seed, 0.08) for seed in range(16)]
        models = [model, *(model.with_adapter(folder) for folder in folders)]

        def text(each: LocalModel) -> str:
            return each.generate(PROMPT, max_tokens=12, temperature=0)

        alone = [text(each) for each in models]
        with ThreadPoolExecutor(len(models)) as pool:
            together = list(pool.map(text, models))
    assert together == alone
    assert len(set(alone)) > 8
