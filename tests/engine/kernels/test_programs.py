"""Native programs against the module's own passes with the same roundings: every family.

A difference of sums in the last place flips a code of an activation now and then, and all that
follows moves by a little. So of several inputs one must agree to a few units in the last place,
and every one but for what some flipped codes explain.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator

import pytest
import torch
from tests.engine.kernels.calls import on_path
from tests.engine.kernels.quantized_models import (
    Form,
    Kv,
    Rounding,
    encoded_natively,
    generated_natively,
    quantized,
    writes,
)
from tests.model.families.all_cases import CASES
from tests.model.families.cases import Case, batch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.engine.kernels.program import KV_FORMS
from lmstack.model import Transformer

# Settings with which a model has no native kernel, and what is said. May only get fewer.
REFUSED = {
    ("num_experts", 5): "Linear, a matrix that is not quantized",
    ("bias", "deberta"): "a table of relative positions",
}
# An input agrees to the last places, or differs by no more than flipped codes explain.
EXACT, FLIPPED = 1e-5, 0.08
LENGTHS = (13, 7, 5, 3, 2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    found = []
    known = set()
    for number, (case, variant) in enumerate((c, v) for c in CASES for v in c.names):
        # Bodies of one family under other heads are one another's equals; the forms of weights
        # and caches take turns.
        usual = (case.family, variant) not in known
        known.add((case.family, variant))
        for place, (form, kv) in enumerate(itertools.product(("int8", "q4"), KV_FORMS)):
            now = usual and place in (number % 4, (number + 3) % 4)[: 1 + (variant == "plain")]
            name = f"{case.architecture}-{variant}-{form}-{kv}"
            marks = () if now else pytest.mark.long
            found.append(pytest.param(case, variant, form, kv, marks=marks, id=name))
    metafunc.parametrize(("case", "variant", "form", "kv"), found)


@pytest.fixture(autouse=True)
def _portable(paths: list[str]) -> Iterator[None]:
    """The path on which bfloat16 is rounded nowhere but in the cache."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with on_path(paths[-1]), torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def inputs(case: Case, variant: str, length: int) -> dict[str, Tensor]:
    """Other ids for each length."""
    values = {k: v[:, :length] for k, v in batch(case, variant, "none").items()}
    draw = torch.Generator().manual_seed(length)
    most = case.config(variant).vocab_size
    for name in ("input_ids", "decoder_input_ids"):
        if name in values:
            values[name] = torch.randint(5, most, values[name].shape, generator=draw)
    return values


def differences(module: Transformer, values: dict[str, Tensor], kv: Kv) -> float:
    """The largest between native results and the module's, as a share of the largest of them."""
    ids = values["input_ids"][0].tolist()
    inner = contextlib.nullcontext()
    if module.encoder is not None:
        inner = module.encoder.using(Rounding("bfloat16"))
    with module.using(Rounding(kv if writes(module) else "bfloat16")), inner:
        wanted = module(**values)
    if not writes(module):
        if module.encoder is not None:
            module, expected = module.encoder, wanted.encoder_last_hidden_state
        else:
            expected = wanted.last_hidden_state
        types = values.get("token_type_ids")
        (hidden,) = encoded_natively(module, [ids], None if types is None else types[0].tolist())
        return relative(hidden, expected[0])
    decoder = values.get("decoder_input_ids")
    text, source = (ids, []) if decoder is None else (decoder[0].tolist(), ids)
    hidden, logits = generated_natively(module, text, kv, source=source, length=len(text))
    return max(relative(hidden, wanted.last_hidden_state[0]), relative(logits, wanted.logits[0]))


def relative(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_a_family_gives_what_its_passes_give(case: Case, variant: str, form: Form, kv: Kv) -> None:
    module = quantized(case.ours(variant), form)
    settings = dataclasses.asdict(module.config)
    refused = [why for (name, value), why in REFUSED.items() if settings[name] == value]
    if refused:
        with pytest.raises(UnsupportedError, match=refused[0]):
            differences(module, inputs(case, variant, 3), kv)
        return
    found: list[float] = []
    for length in LENGTHS:
        found.append(differences(module, inputs(case, variant, length), kv))
        assert found[-1] < FLIPPED
        if found[-1] < EXACT:
            return
    pytest.fail(f"no input agrees: {found}")
