"""What a deployment takes and gives: bytes held, bytes read, what fits, what bounds the speed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.published import LLAMA_3_8B
from torch.utils.flop_counter import FlopCounterMode

from lmstack.app.inspect import capacity
from lmstack.app.inspect.capacity import (
    PROGRAM_BYTES,
    CapacityPlan,
    Demand,
    kv_bytes,
    kv_forms,
    plan,
)
from lmstack.app.inspect.rates import Rates
from lmstack.app.inspect.weight_sizes import rescaled_weights, stored_weights, weights_in
from lmstack.core import InputError, UnsupportedError
from lmstack.engine import EngineConfig
from lmstack.engine.cpu import executor
from lmstack.engine.cpu.expanding import expanded_bytes
from lmstack.engine.torch.kvpool import KVPool
from lmstack.model import (
    LayerKind,
    Transformer,
    TransformerConfig,
    load_module,
    read_gguf,
    write_gguf,
)
from lmstack.model.families import config_from_json
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.quant.matrix import held_weights
from lmstack.model.quant.quantize import int8_group, quantize_int8, quantize_nf4, quantize_q4

KIB, GIB = 1 << 10, 1 << 30
RATES = Rates(10e9, 20e9, {"int8": 800e9, "bfloat16": 400e9, "float32": 100e9})


def tiny(**changes: object) -> TransformerConfig:
    values = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "max_positions": 128,
    }
    return TransformerConfig(**values | changes)  # type: ignore[arg-type]


def planned(
    config: TransformerConfig, users: int, context: int, memory: int = 64 * GIB
) -> CapacityPlan:
    return plan(
        config, weights_in(config, "bfloat16"), "bfloat16", Demand(users, context, memory), RATES
    )


@pytest.mark.parametrize(("kv_heads", "expected"), [(8, 128 * KIB), (32, 512 * KIB)])
def test_llama_3_8b_keeps_as_many_bytes_a_token_as_its_key_heads_say(
    kv_heads: int, expected: int
) -> None:
    config = config_from_json(LLAMA_3_8B | {"num_key_value_heads": kv_heads})
    assert planned(config, 1, 8192).needs.kv_per_token == expected


def test_a_context_of_128k_tokens_of_llama_3_8b_takes_16_gib() -> None:
    needs = planned(config_from_json(LLAMA_3_8B), 1, 128 * 1024).needs
    assert needs.sequence == 16 * GIB
    assert needs.weights == pytest.approx(8.03e9 * 2, rel=1e-3)
    assert needs.fits == 3  # (64 - 15 - 0.4) / 16 GiB


def test_the_bytes_of_a_token_are_those_that_the_pool_allocates() -> None:
    config, dtype = tiny(), torch.float32
    pool = KVPool(config, 5, 4, dtype)
    held = sum(t.numel() * t.itemsize for t in (pool.keys, pool.values))
    weights = weights_in(config, "float32")
    needs = plan(config, weights, "float32", Demand(1, 20, GIB), RATES).needs
    assert needs.kv_per_token * 20 == held


def test_keys_and_values_in_int8_take_what_the_native_cache_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def per_token(config: TransformerConfig, kv: str) -> int:
        return {"int8": 7}[kv] * config.num_layers

    monkeypatch.setattr(executor, "native_bytes_per_token", per_token)
    assert kv_bytes(tiny(), "int8") == 21


@pytest.mark.parametrize(
    ("form", "expected"),
    [("int8", ("int8", "bfloat16")), ("bfloat16", ("bfloat16",)), ("float32", ("float32",))],
)
def test_keys_and_values_are_held_as_the_engine_can(
    monkeypatch: pytest.MonkeyPatch, form: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(capacity, "native_problem", lambda: "")
    assert kv_forms(weights_in(tiny(), form), tiny()) == expected  # type: ignore[arg-type]


def test_what_is_planned_first_is_what_the_engine_does_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "native_problem", lambda: "")
    for config in (tiny(), dataclasses.replace(tiny(), qkv_bias=True)):
        found = kv_forms(weights_in(config, "q4"), config)
        assert found[0] == EngineConfig().kv_of(config)
        assert sorted(found) == ["bfloat16", "int8"]


def test_integers_without_native_kernels_have_the_states_of_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "native_problem", lambda: "no compiler")
    assert kv_forms(weights_in(tiny(), "q4"), tiny()) == ("float32",)


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"norm": "ln", "mlp": "plain"}])
def test_floating_weights_take_what_the_module_takes(form: str, changes: dict[str, object]) -> None:
    config = tiny(**changes)
    module = Transformer(config).to(getattr(torch, form))
    held = sum(p.numel() * p.itemsize for p in module.parameters())
    assert weights_in(config, form).total == held  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mlp": "plain"},
        {"hidden_size": 60, "vocab_size": 99},
        {"hidden_size": 192, "intermediate_size": 512},
        {"hidden_size": 192, "intermediate_size": 512, "norm_place": "post_only"},
    ],
)
@pytest.mark.parametrize("form", ["int8", "q4", "nf4"])
def test_quantized_weights_take_what_the_quantizer_makes(
    form: str, changes: dict[str, object]
) -> None:
    config = tiny(**changes)
    module = Transformer(config)
    matrices = matrices_of(module)

    def bytes_of(name: str, weight: torch.Tensor) -> int:
        if name not in matrices:
            return 4 * weight.numel()
        if form == "q4":
            return quantize_q4(weight, paired=matrices[name]).nbytes
        if form == "nf4" and "blocks." in name:
            return quantize_nf4(weight, paired=matrices[name]).nbytes
        group = int8_group(config, name, weight.shape[1])
        return quantize_int8(weight, group, paired=matrices[name]).nbytes

    held = sum(bytes_of(name, p.detach()) for name, p in module.named_parameters())
    assert len(matrices) == 3 * 4 + 2
    assert weights_in(config, form).total == held  # type: ignore[arg-type]


def test_wider_groups_take_fewer_bytes() -> None:
    """A decoder with them, and the same where they are not allowed."""
    sizes = {"hidden_size": 192, "intermediate_size": 512}
    wide, small = (weights_in(tiny(**sizes, norm_place=p), "int8") for p in ("pre", "post_only"))
    # Queries, keys, values, gate and up of three layers: one scale a row in place of three.
    assert small.total - wide.total == 2 * 3 * (128 + 1024) * (3 - 1)


def test_experts_stay_floats() -> None:
    config = tiny(num_experts=8)
    assert weights_in(config, "q4").experts == weights_in(config, "float32").experts


@pytest.mark.parametrize("tied", [False, True])
def test_stored_weights_are_the_tensors_of_the_file(tmp_path: Path, tied: bool) -> None:
    path = tmp_path / "m.gguf"
    module = Transformer(tiny(tie_embeddings=tied))
    write_gguf(module, path, "q8_0")
    with read_gguf(path) as file:
        found = stored_weights(file)
        sizes = {name: tensor.size for name, tensor in file.tensors.items()}
    assert found.total == sum(sizes.values())
    # A table of its own is looked into, not read; one that is the output layer as well is read.
    assert found.total - found.dense == (0 if tied else sizes["token_embd.weight"])
    assert (found.matrix, found.form.split(",")[0]) == ("int8", "Q8_0")


@pytest.mark.parametrize("kind", ["q4_0", "q8_0"])
@pytest.mark.parametrize("tied", [False, True])
def test_rescaled_weights_take_what_the_form_makes(tmp_path: Path, tied: bool, kind: str) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(Transformer(tiny(tie_embeddings=tied)), path, kind)
    with read_gguf(path) as file:
        found = rescaled_weights(file)
    module = load_module(path, weights="file8")
    assert found.total == sum(weight.nbytes for weight in held_weights(module).values())
    assert found.beside == expanded_bytes(module)
    assert (found.beside > 0) == (kind == "q4_0")


def test_a_table_that_is_only_looked_into_is_not_read_by_a_step() -> None:
    untied, tied = (weights_in(tiny(tie_embeddings=t), "bfloat16") for t in (False, True))
    assert untied.total - untied.dense == 96 * 64 * 2
    assert tied.total == tied.dense == untied.dense


def test_an_encoder_is_not_read_by_a_step_of_its_decoder() -> None:
    decoder = tiny()
    inner = tiny(causal=False, head="none")
    both = weights_in(tiny(encoder=inner), "bfloat16")
    alone = weights_in(decoder, "bfloat16")
    # What cross-attention reads each step: a norm, a query and an output projection a layer.
    crossing = 3 * 2 * (64 + 2 * 64 * 64)
    assert both.dense == alone.dense + crossing


@given(batch=st.integers(1, 200))
def test_more_tokens_choose_more_experts_and_one_chooses_its_own(batch: int) -> None:
    config = tiny(num_experts=8, experts_per_token=2)
    weights = weights_in(config, "bfloat16")
    assert weights.experts == 8 * 3 * 3 * 64 * 128 * 2
    one, many, more = (weights.read_by(n, config) for n in (1, batch, batch + 1))
    assert one == pytest.approx(weights.dense + weights.experts / 4)
    assert one <= many <= more <= weights.dense + weights.experts


@settings(deadline=None, max_examples=60)
@given(
    users=st.integers(1, 40),
    context=st.integers(1, 3000),
    memory=st.integers(PROGRAM_BYTES, PROGRAM_BYTES + (1 << 24)),
)
def test_what_is_said_to_fit_fits_and_one_more_does_not(
    users: int, context: int, memory: int
) -> None:
    config = tiny()
    needs = planned(config, users, context, memory).needs
    block = EngineConfig().block_size
    assert needs.sequence == -(-context // block) * block * needs.kv_per_token

    def fits(sequences: int, each: int) -> bool:
        return needs.weights + needs.program + sequences * each <= memory

    assert needs.fits == 0 or fits(needs.fits, needs.sequence)
    assert not fits(needs.fits + 1, needs.sequence)
    longest = needs.context_for_users
    assert longest % block == 0
    assert longest == 0 or fits(users, longest * needs.kv_per_token)
    assert not fits(users, (longest + block) * needs.kv_per_token)
    assert (needs.memory_for_users <= memory) == (needs.fits >= users)


def test_where_nothing_fits_no_speed_is_promised() -> None:
    found = planned(tiny(), 4, 1000, 1000)
    assert (found.needs.fits, found.batch, found.decode, found.prompt) == (0, 0, None, None)


def test_one_stream_decodes_at_bandwidth_over_bytes() -> None:
    config = config_from_json(LLAMA_3_8B)
    weights = weights_in(config, "bfloat16")
    decode = planned(config, 1, 4096).decode
    assert decode is not None
    assert decode.bound == "memory"
    assert decode.bytes_read == weights.dense + 4096 * 128 * KIB
    assert decode.tokens_per_s == pytest.approx(20e9 / decode.bytes_read)


def test_users_that_do_not_fit_do_not_decode() -> None:
    config = config_from_json(LLAMA_3_8B)
    found = planned(config, 8, 128 * 1024)
    assert (found.needs.fits, found.batch) == (3, 3)
    assert found.decode is not None
    assert found.decode.tokens_per_s == pytest.approx(3 / found.decode.seconds)


@given(st.integers(1, 400))
def test_a_larger_batch_gives_no_fewer_tokens_until_products_bound_it(batch: int) -> None:
    config = config_from_json(LLAMA_3_8B | {"num_hidden_layers": 2})
    one, more = (planned(config, n, 64).decode for n in (batch, batch + 1))
    assert one is not None
    assert more is not None
    assert more.tokens_per_s >= one.tokens_per_s * (1 - 1e-9)
    most = 400e9 / (more.operations / (batch + 1))
    assert more.tokens_per_s <= most * (1 + 1e-9)


def test_a_layer_with_a_window_reads_no_more_than_it() -> None:
    kinds = (LayerKind(), LayerKind(window=32))
    config = tiny(kinds=kinds, pattern=(0, 1, 1))
    full, windowed = (planned(c, 1, 128).decode for c in (tiny(), config))
    assert full is not None
    assert windowed is not None
    saved = 2 * (128 - 32) * kv_bytes(config, "bfloat16") // 3
    assert full.bytes_read - windowed.bytes_read == saved


@pytest.mark.parametrize("length", [1, 7, 40])
@pytest.mark.parametrize("window", [None, 5])
def test_operations_of_a_prompt_are_those_that_torch_counts(
    length: int, window: int | None
) -> None:
    config = tiny(kinds=(LayerKind(window=window),))
    module = Transformer(config).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        out = module(torch.zeros(1, length, dtype=torch.long))
        linear = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in linear.items() if "mm" in str(op) and "bmm" not in str(op))
    # The module gave logits for every token; a prompt needs those after its last one.
    assert out.logits is not None
    products -= (length - 1) * 2 * 64 * 96
    pairs = sum(min(t, window or t) for t in range(1, length + 1))
    found = planned(config, 1, length).prompt
    assert found is not None
    assert found.operations == products + 3 * pairs * 4 * 4 * 16


def test_a_model_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="does not generate"):
        planned(tiny(causal=False), 1, 8)


def test_a_machine_without_such_products_is_an_error_that_names_those_it_has() -> None:
    config = tiny()
    rates = Rates(1e9, 1e9, {"float32": 1e9})
    with pytest.raises(InputError, match="products in int8") as raised:
        plan(config, weights_in(config, "int8"), "bfloat16", Demand(1, 8, GIB), rates)
    assert "float32" in str(raised.value)


@pytest.mark.parametrize(
    "values", [(0, 8, 1), (1, 0, 1), (1, 8, -1), (1.5, 8, 1), (True, 8, 1), (1, 8, math.nan)]
)
def test_a_demand_checks_itself(values: tuple[int, int, int]) -> None:
    with pytest.raises(InputError):
        Demand(*values)
