"""Native programs where something is amiss, or more than one of them is at work."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.engine.conftest import byte_vocabulary, generate, tiny_config
from tests.engine.cpu.quantized_models import encoded_natively, generated_natively, quantized

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.engine import Engine, EngineConfig
from lmstack.engine.cpu.executor import NativeEncoder, NativeExecutor
from lmstack.engine.executor import SequenceSpan
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import LayerKind, RopeSpec, Transformer

IDS = [(7 * i) % 250 for i in range(30)]


def model(**changes: object) -> Transformer:
    torch.manual_seed(3)
    module = Transformer(tiny_config(**changes))
    module.reset_parameters(std=0.35)
    return quantized(module, "int8")


@pytest.fixture(autouse=True)
def _two_threads(paths: list[str]) -> Iterator[None]:
    del paths
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def engine_of(module: Transformer, **settings: object) -> Engine:
    values = {"num_blocks": 16, "max_batch_tokens": 64} | settings
    return Engine(module, byte_vocabulary(), EngineConfig.from_mapping(values))


def test_a_block_size_without_a_kernel_is_served_by_the_reference_ops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = model()
    engine = engine_of(module, block_size=8, num_blocks=32)
    assert isinstance(engine._runner._executor, TorchExecutor)
    assert "use a multiple of 16" in caplog.text or "block_size of 8" in caplog.text
    got = generate(engine, IDS, max_tokens=6).tokens
    ids = list(IDS)
    for _ in range(6):
        logits = module(torch.tensor([ids])).logits
        assert logits is not None
        ids.append(int(logits[0, -1].argmax()))
    assert got == ids[len(IDS) :]


SWITCHED_OFF = """
from tests.engine.cpu.test_failures import *

engine = engine_of(model())
assert isinstance(engine._runner._executor, TorchExecutor)
outcome = generate(engine, IDS, max_tokens=4)
assert outcome.last.error is None
assert len(outcome.tokens) == 4
"""


def test_native_ops_switched_off_leave_an_engine_that_serves_quantized_weights() -> None:
    in_process_of_its_own(SWITCHED_OFF, LMSTACK_KERNELS="none")


def in_process_of_its_own(text: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]


NO_MEMORY = """
import resource
import numpy as np
from tests.engine.cpu.test_failures import *
from lmstack.core import EngineError

torch.set_num_threads(1)
module = model()
wanted = generated_natively(module, IDS, "int8")[0]
program = NativeExecutor(module, 4, 16)._hidden
ROWS = 1_000_000  # the result takes 128 MB, what is between far more
assert program.width == 32
zeros = np.zeros(ROWS, np.int32)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (250 << 20), -1))
try:
    program.run(ROWS, ids=zeros, positions=zeros)
except EngineError as error:
    assert "more memory" in error.message, error
else:
    raise SystemExit("it found memory")
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert torch.equal(generated_natively(module, IDS, "int8")[0], wanted)
"""


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer takes all addresses")
def test_a_step_that_finds_no_memory_says_so_and_the_next_one_runs() -> None:
    in_process_of_its_own(NO_MEMORY)


def test_a_position_that_a_table_does_not_have_is_refused() -> None:
    """C would read beyond the table."""
    module = model(positions="learned", max_positions=32)
    executor = NativeExecutor(module, 4, 16)
    with pytest.raises(ContextLengthError, match="position 32"):
        executor.hidden([1], [32], [SequenceSpan([0, 1, 2], 32, 33)], None)


@pytest.mark.parametrize("token", [-1, 260])
def test_a_token_that_the_table_does_not_have_is_refused(token: int) -> None:
    executor = NativeExecutor(model(), 4, 16)
    with pytest.raises(InputError, match=str(token)):
        executor.hidden([1, token], [0, 1], [SequenceSpan([0], 0, 2)], None)


def test_rotary_tables_grow_with_the_positions() -> None:
    module = model(max_positions=4096)
    executor = NativeExecutor(module, 80, 16)
    table = list(range(80))
    hidden = [executor.hidden([9], [0], [SequenceSpan(table, 0, 1)], None)]
    hidden += [
        executor.hidden(
            ids, range(start, start + 200), [SequenceSpan(table, start, start + 200)], None
        )
        for start in range(1, 1201, 200)
        for ids in [[(i * i) % 250 for i in range(start, start + 200)]]
    ]
    whole = NativeExecutor(module, 80, 16)
    ids = [9, *((i * i) % 250 for i in range(1, 1201))]
    assert torch.equal(
        torch.cat(hidden), whole.hidden(ids, range(1201), [SequenceSpan(table, 0, 1201)], None)
    )


def test_heads_wider_than_attention_has_room_for_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="head of 272 channels"):
        NativeExecutor(model(head_dim=272, num_heads=1, num_kv_heads=1), 4, 16)


def test_an_encoder_whose_rotations_depend_on_the_length_takes_that_of_its_input() -> None:
    rope = RopeSpec(scaling="dynamic", factor=4.0, original_positions=8)
    module = model(kinds=(LayerKind(rope),), causal=False, head="none")
    (hidden,) = encoded_natively(module, [IDS])
    wanted = module(torch.tensor([IDS])).last_hidden_state[0]
    assert torch.cosine_similarity(hidden, wanted, dim=-1).min() > 0.995


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_though_it_has_no_threads_of_its_parent() -> None:
    executor = NativeExecutor(model(), 4, 16)
    step = IDS, range(len(IDS)), [SequenceSpan([0, 1], 0, len(IDS))], None
    wanted = executor.hidden(*step).tolist()
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue = context.Queue()  # type: ignore[type-arg]
    child = context.Process(target=lambda: results.put(executor.hidden(*step).tolist()))
    child.start()
    try:
        assert results.get(timeout=60) == wanted
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


def at_once(*work: Callable[[], list[torch.Tensor]], times: int = 20) -> None:
    """Each of ``work`` in a thread of its own gives what it gives alone."""
    wanted = [each() for each in work]
    start = threading.Barrier(len(work))

    def again(each: Callable[[], list[torch.Tensor]]) -> list[list[torch.Tensor]]:
        start.wait()
        with torch.inference_mode():
            return [each() for _ in range(times)]

    with ThreadPoolExecutor(len(work)) as pool:
        for expected, found in zip(wanted, pool.map(again, work), strict=True):
            for each in found:
                assert all(torch.equal(a, b) for a, b in zip(each, expected, strict=True))


def test_two_engines_and_an_encoder_compute_at_once() -> None:
    decoder, encoder = model(), model(causal=False, head="none", num_kv_heads=4)
    rows = [IDS, IDS[:5], IDS[3:20]]
    at_once(
        lambda: list(generated_natively(decoder, IDS, "int8")),
        lambda: list(generated_natively(decoder, IDS[::-1], "bfloat16", chunks=(3, 27))),
        lambda: encoded_natively(encoder, rows),
    )


def test_one_encoder_serves_threads_whose_texts_are_longer_and_longer() -> None:
    """Tables that grow while another thread reads them."""
    encoder = NativeEncoder(model(causal=False, head="none", max_positions=2048))

    def texts(length: int) -> list[torch.Tensor]:
        ids = [i % 250 for i in range(length)]
        return [encoder.varlen_hidden(ids, [length])]

    at_once(*(lambda n=n: texts(n) for n in (20, 600, 1400)), times=4)


def test_the_number_of_threads_may_change_between_steps() -> None:
    module = model()
    executor, other = NativeExecutor(module, 4, 16), NativeExecutor(module, 4, 16)
    table = [0, 1, 2]
    for place, token in enumerate(IDS):
        torch.set_num_threads(1 + place % 2)
        step = [token], [place], [SequenceSpan(table, place, place + 1)], None
        found = executor.hidden(*step)
        torch.set_num_threads(1)
        assert torch.equal(found, other.hidden(*step))
