"""The seam for a new device: an executor that is strange in all that the engine leaves open, and
torch's on a device that is not the CPU, give the tokens that torch gives on the CPU."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.adapters import write_drawn
from tests.engine.conftest import Outcome, byte_vocabulary, drive, request, tiny_config
from tests.engine.cpu.quantized_models import quantized
from tests.engine.elsewhere import COUNTS, DEVICE, Far
from torch import Tensor

from lmstack.core import Grammar, InputError, UnsupportedError
from lmstack.engine import Engine, EngineConfig
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.executor import Executor, SequenceSpan
from lmstack.engine.executors import EXECUTORS, check_device, open_executor
from lmstack.engine.scratch import Scratch
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import REFERENCE_OPS, ForwardContext, Transformer, TransformerConfig
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerKind
from lmstack.model.lora.terms import AdapterTerms


class StrangeExecutor:
    """float64 elsewhere, over a cache of whole blocks (blocks, layers, 2, Hkv, block_size, hd)."""

    device, dtype, numerics = DEVICE, "float64", "+strange"

    def __init__(self, module: Transformer, num_blocks: int, block_size: int) -> None:
        c = module.config
        self._given, self._size = module, block_size
        self.reload()
        shape = num_blocks, c.num_layers, 2, c.num_kv_heads, block_size, c.head_dim
        self._cache = torch.zeros(shape, dtype=torch.float64, device=DEVICE)

    @classmethod
    def bytes_per_token(cls, module: Transformer, _config: EngineConfig, /) -> int:
        c = module.config
        return 16 * c.num_layers * c.num_kv_heads * c.head_dim

    @classmethod
    def open(cls, module: Transformer, num_blocks: int, config: EngineConfig) -> StrangeExecutor:
        if module.encoder is not None:
            raise UnsupportedError("it has no encoder")
        return cls(module, num_blocks, config.block_size)

    def reload(self) -> None:
        self._module = copy.deepcopy(self._given).double().to(DEVICE)

    def hidden(
        self, ids: Seq[int], positions: Seq[int], spans: Seq[SequenceSpan], length: int | None
    ) -> Tensor:
        context = ForwardContext(REFERENCE_OPS, _Attention(self._cache, self._module.config, spans))
        at = (torch.tensor(list(each), device=DEVICE) for each in (ids, positions))
        return self._module.hidden(*at, context, length=length)

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        found = self._module.logits(hidden, ForwardContext()).float()
        if scratch is None:
            return found
        return scratch.rows(*found.shape).copy_(found)

    def prepared(self, _terms: AdapterTerms) -> Any:
        raise UnsupportedError("no adapters here")

    def encode(self, _inputs: object) -> None:
        raise AssertionError

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        for source, target in blocks:
            self._cache[target] = self._cache[source]

    def wipe(self, table: Iterable[int]) -> None:
        for block in table:
            self._cache[block] = 0


class _Attention:
    """As plain as it is slow."""

    def __init__(self, cache: Tensor, config: TransformerConfig, spans: Seq[SequenceSpan]) -> None:
        self._cache, self._config, self._spans = cache, config, spans

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: ScoreBias | None = None
    ) -> Tensor:
        assert bias is None
        parts = []
        for span, *rows in zip(self._spans, *map(self._by_span, (q, k, v)), strict=True):
            parts.append(self._attend(span, layer, *rows))
        return torch.cat(parts)

    def _by_span(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split_with_sizes([span.count for span in self._spans])

    def _attend(self, span: SequenceSpan, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        size = self._cache.shape[4]
        for row, place in enumerate(range(span.start, span.end)):
            block = self._cache[span.table[place // size], layer]
            block[:, :, place % size] = torch.stack((k[row], v[row]))
        held = torch.cat([self._cache[b, layer] for b in span.table], dim=2)[:, :, : span.end]
        keys, values = held.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        scores = q.transpose(0, 1) @ keys.transpose(1, 2) * self._config.layers[layer].scale
        hidden = torch.ones_like(scores).triu(span.start + 1).bool()
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        return (weights @ values).transpose(0, 1)

    def cross(self, layer: int, q: Tensor) -> Tensor:
        raise AssertionError


def is_an_executor(kind: type[Executor]) -> type[Executor]:
    return kind


STRANGE = is_an_executor(StrangeExecutor)
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
# Every path from logits to tokens.
REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 0.9, "seed": 3, "top_k": 40, "top_p": 0.9, "min_p": 0.01},
    "typical": {"temperature": 1.2, "seed": 4, "typical_p": 0.7, "logprobs": 3},
    "penalised": {
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.2,
        "logit_bias": {65: 2.0, 66: -3.0},
        "no_repeat_ngram_size": 2,
        "min_tokens": 5,
    },
    "forced": {"forced_bos_id": 70, "forced_eos_id": 256, "bad_words": ((9,), (65, 66))},
    "allowed": {"allowed_tokens": lambda tokens: range(sum(tokens) % 90, 120)},
    "scored": {"echo": True, "logprobs": 2},
    "grammar": {"grammar": Grammar("json_schema", SCHEMA), "temperature": 1.0, "seed": 5},
    "beams": {"num_beams": 3, "n": 2},
}


def answers(engine: Engine, *left_out: str, encodes: bool = False) -> dict[str, tuple[Any, ...]]:
    """`REQUESTS` side by side, with prompts that share beginnings and end in repetitions."""
    outcomes = {}
    for number, (name, options) in enumerate(REQUESTS.items()):
        if name in left_out or (encodes and name == "scored"):
            continue
        outcomes[name] = Outcome()
        sampling = {k: v for k, v in options.items() if k not in ("bad_words", "allowed_tokens")}
        asked = request(
            [*range(40, 48), 7, 8, number, 7, 8],
            outcomes[name],
            id=name,
            **{"max_tokens": 6, "ignore_eos": True, **sampling},
        )
        more = {k: options[k] for k in options.keys() - sampling.keys()}
        engine.submit(replace(asked, decoder_ids=(3,) if encodes else (), **more))
    drive(engine)
    found = {}
    for name, outcome in outcomes.items():
        assert outcome.last.error is None, (name, outcome.last.error)
        assert len(outcome.tokens) >= 5 or name == "grammar", name
        found[name] = (outcome.tokens, [[s.token for s in e.prompt] for e in outcome.events])
    return found


def engine_of(module: Transformer, executors: Seq[type[Executor]], **changes: object) -> Engine:
    values = {"block_size": 3, "num_blocks": 400, "max_batch_tokens": 64} | changes
    config = EngineConfig.from_mapping(values)
    return Engine(module, byte_vocabulary(), config, executors=executors)


@pytest.fixture(scope="module")
def expected(module: Transformer) -> dict[str, tuple[Any, ...]]:
    return answers(engine_of(module, (TorchExecutor,)))


def test_a_strange_executor_gives_the_same_tokens(
    module: Transformer, expected: dict[str, tuple[Any, ...]]
) -> None:
    engine = engine_of(module, (STRANGE, TorchExecutor))
    assert isinstance(engine._runner._executor, StrangeExecutor)
    assert (engine.numerics, engine.stats().dtype) == ("+strange", "float64")
    found = answers(engine, "forced", "typical", "allowed")
    assert found == {name: expected[name] for name in found}


@pytest.mark.parametrize("speculation", ["off", "always"])
def test_torch_elsewhere_gives_the_same_tokens(
    module: Transformer, expected: dict[str, tuple[Any, ...]], speculation: str
) -> None:
    engine = engine_of(
        copy.deepcopy(module), EXECUTORS, device="elsewhere", speculation=speculation
    )
    assert engine._runner._executor.device.type == "elsewhere"
    assert engine.numerics == "+elsewhere"
    assert answers(engine) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": (LayerKind(window=10), LayerKind()), "pattern": (0, 1), "num_experts": 4},
        {"bias": "alibi", "kinds": (LayerKind(rope=None),), "positions": "learned"},
        {"bias": "t5", "attention_softcap": 20.0, "logit_softcap": 30.0},
        {"encoder": tiny_config(causal=False, head="none")},
    ],
    ids=["windows and experts", "alibi", "t5's bias and softcaps", "encoder-decoder"],
)
def test_families_run_elsewhere(changes: dict[str, Any]) -> None:
    torch.manual_seed(3)
    module = Transformer(replace(tiny_config(), **changes)).eval()
    module.reset_parameters(std=0.35)
    near = engine_of(copy.deepcopy(module), (TorchExecutor,))
    far = engine_of(module, (TorchExecutor,), device="elsewhere")
    encodes = module.encoder is not None
    assert answers(far, encodes=encodes) == answers(near, encodes=encodes)


@torch.inference_mode()
def test_long_prompts_in_bfloat16_run_elsewhere() -> None:
    torch.manual_seed(3)
    module = Transformer(tiny_config()).to(torch.bfloat16)
    span = SequenceSpan(range(64), 0, 190)
    found = []
    for device in ("cpu", "elsewhere"):
        executor = TorchExecutor(module, 64, 3, REFERENCE_OPS, device)
        found.append(executor.hidden(range(190), range(190), [span], None).tolist())
    assert found[0] == found[1]


def test_quantized_weights_and_adapters_run_elsewhere(module: Transformer, tmp_path: Path) -> None:
    folder = write_drawn(module, tmp_path, 0)
    small = quantized(copy.deepcopy(module), "int8")
    found = []
    for device in ("cpu", "elsewhere"):
        engine = engine_of(copy.deepcopy(small), (TorchExecutor,), device=device)
        outcomes = [Outcome(), Outcome()]
        for outcome, adapter in zip(outcomes, (None, engine.open_adapter(folder)), strict=True):
            asked = request(range(30, 45), outcome, id=str(adapter is None), adapter=adapter)
            engine.submit(asked)
        drive(engine)
        found.append([outcome.tokens for outcome in outcomes])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_other_weights_reach_the_device(module: Transformer) -> None:
    torch.manual_seed(9)
    other = Transformer(module.config)
    other.reset_parameters(std=0.35)
    near = answers(engine_of(other, (TorchExecutor,)))
    engine = engine_of(copy.deepcopy(module), (TorchExecutor,), device="elsewhere")
    before = answers(engine)
    engine.update_weights(dict(other.named_parameters()))
    assert answers(engine) == near != before


def test_a_step_moves_as_few_tensors_however_many_layers_there_are(module: Transformer) -> None:
    """Block tables, slots and masks are made once a step."""
    counts = []
    for num_layers in (2, 6):
        model = Transformer(tiny_config(num_layers=num_layers)).eval()
        engine = engine_of(model, (TorchExecutor,), device="elsewhere", speculation="off")
        for number in range(4):
            engine.submit(request(range(30, 40 + number), id=str(number), max_tokens=20))
        engine.step()
        engine.step()
        COUNTS.clear()
        engine.step()
        counts.append(COUNTS.total())
    assert counts[0] == counts[1] <= 20


def test_the_device_does_not_let_tensors_of_the_cpu_through() -> None:
    far = torch.zeros(3, device="elsewhere")
    assert isinstance(far, Far)
    for mixed in (
        lambda: far + torch.ones(3),
        lambda: far + torch.tensor(1.0),
        lambda: far[torch.tensor([0])],
    ):
        with pytest.raises(AssertionError, match="mixes"):
            mixed()


# -- which executor runs ----------------------------------------------------------------------


def test_the_first_executor_that_can_is_taken_and_the_reason_of_others_said(
    module: Transformer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("the reason")

    monkeypatch.setattr(NativeExecutor, "open", refuse)
    config = EngineConfig(num_blocks=8)
    with caplog.at_level(logging.WARNING, "lmstack.engine"):
        executor, num_blocks = open_executor(module, config)
        assert not caplog.text, "floats are torch's as a matter of course"
        assert (type(executor), num_blocks) == (TorchExecutor, 8)
        open_executor(quantized(copy.deepcopy(module), "int8"), config)
    assert "the reason" in caplog.text


def test_where_none_can_all_reasons_are_in_the_error(module: Transformer) -> None:
    encodes = replace(tiny_config(), encoder=tiny_config(causal=False, head="none"))
    with pytest.raises(UnsupportedError, match="it has no encoder"):
        open_executor(Transformer(encodes), EngineConfig(), (STRANGE,))
    integers = quantized(copy.deepcopy(module), "int8")
    with pytest.raises(UnsupportedError, match="are for CPUs, not for elsewhere"):
        open_executor(integers, EngineConfig(device="elsewhere"), (NativeExecutor,))


@pytest.mark.parametrize("device", ["", "CPU", "cpu:x", "the gpu"])
def test_what_is_no_device_is_refused_by_the_config(device: str) -> None:
    with pytest.raises(InputError, match="device"):
        EngineConfig(device=device)


@pytest.mark.parametrize("device", ["nonsense", "vulkan", "meta"])
def test_a_device_that_torch_has_not_is_an_error_that_says_so(
    module: Transformer, device: str
) -> None:
    with pytest.raises(InputError, match=device) as caught:
        Engine(module, byte_vocabulary(), EngineConfig(device=device))
    assert caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_where_there_is_none_is_an_error_that_says_so(module: Transformer) -> None:
    with pytest.raises(InputError, match="cuda"):
        Engine(module, byte_vocabulary(), EngineConfig(device="cuda"))


def test_a_device_that_fails_without_a_word_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(InputError, match="'cpu' here: NotImplementedError"):
        check_device("cpu")
