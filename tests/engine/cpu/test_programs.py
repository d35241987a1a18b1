"""Native programs against the module's own passes with the same roundings: every family.

A difference of sums in the last place flips a code of an activation now and then, and all that
follows moves by a little. So of several inputs one must agree to a few units in the last place,
and every one but for what some flipped codes explain.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from tests.engine.conftest import tiny_config
from tests.engine.cpu.calls import on_path
from tests.engine.cpu.quantized_models import (
    Form,
    Kv,
    Rounding,
    encoded_natively,
    generated_natively,
    quantized,
    rounded_output,
    writes,
)
from tests.model.families.all_cases import CASES
from tests.model.families.cases import Case, batch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.lowering import lower
from lmstack.engine.cpu.program import KV_FORMS, Program
from lmstack.engine.cpu.trace import Node, Symbol, TracingOps, trace_logits
from lmstack.engine.executor import SequenceSpan
from lmstack.model import ForwardContext, Transformer

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
        # Bodies of one family under other heads are one another's equals; the forms of caches take
        # turns, and those of weights are no matter of the variant.
        usual = (case.family, variant) not in known
        known.add((case.family, variant))
        for place, (form, kv) in enumerate(itertools.product(("int8", "q4"), KV_FORMS)):
            turns = (number % 2, 2 + (number + 1) % 2)[: 1 + (variant == "plain")]
            now = usual and place in turns
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
    wanted = rounded_output(module, kv if writes(module) else "bfloat16", **values)
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
    module = quantized(case.drawn(variant), form)
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


PLAIN = {case.architecture: case for case in CASES}


@pytest.mark.parametrize("form", ["nf4 in bytes", "act-order", "file8"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertModel"])
def test_a_codebook_an_order_of_columns_and_lines_give_what_the_passes_give(
    architecture: str, form: Form
) -> None:
    test_a_family_gives_what_its_passes_give(PLAIN[architecture], "plain", form, "bfloat16")


def test_a_codebook_of_floats_gives_what_its_bytes_give() -> None:
    plain = PLAIN["LlamaForCausalLM"].drawn("plain")
    forms: tuple[Form, ...] = ("nf4", "nf4 in bytes")
    ids = torch.arange(5, 12).tolist()
    exact, in_bytes = (
        torch.cat(generated_natively(quantized(plain, form), ids, "bfloat16"), dim=-1)
        for form in forms
    )
    assert torch.equal(exact, in_bytes)


WRITERS = [
    pytest.param(case, id=case.architecture)
    for case in PLAIN.values()
    if case.architecture.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration", "MTModel"))
    and not case.architecture.startswith("Mixtral")
]


GIVEN = Symbol(Node("input", (), 16))


def test_a_softcap_is_one_step_where_both_its_numbers_are_the_same() -> None:
    steps = lower([torch.tanh(GIVEN / 2.0) * 2.0]).steps
    assert [(step.kind, step.fields["a"]) for step in steps] == [("softcap", 2.0)]


@pytest.mark.parametrize(
    "result",
    [
        GIVEN / 2.0,
        torch.tanh(GIVEN / 2.0),
        torch.tanh(GIVEN / 2.0) * 3.0,
        (GIVEN / 2.0) * 2.0,
        torch.tanh(GIVEN / 2.0) + GIVEN,
        TracingOps().activation(GIVEN / 2.0, "relu") * 2.0,
    ],
    ids=["alone", "without_scale", "another_scale", "without_tanh", "a_sum", "another_function"],
)
def test_what_only_begins_like_a_softcap_has_no_native_kernel(result: Symbol) -> None:
    with pytest.raises(UnsupportedError, match="a division has no native kernel"):
        lower([result])


@pytest.mark.parametrize(
    ("written", "kv"),
    [
        pytest.param(*param.values, kv, id=f"{param.id}-{kv}", marks=marks)
        for number, param in enumerate(WRITERS)
        for place, kv in enumerate(KV_FORMS)
        for marks in [() if place == number % len(KV_FORMS) else pytest.mark.long]
    ],
)
def test_a_prompt_in_chunks_gives_the_bits_of_a_whole_one(written: Case, kv: Kv) -> None:
    module = quantized(written.drawn("plain"), "int8")
    ids = [5 + 7 * i % 50 for i in range(40)]
    source = [*range(7, 27)] if module.encoder is not None else []
    whole = generated_natively(module, ids, kv, source=source)
    for chunks in ((1,) * 40, (17, 23), (16, 1, 3, 20), (39, 1)):
        parts = generated_natively(module, ids, kv, source=source, chunks=chunks, length=40)
        assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True)), chunks


# Around what makes threads share a tile or take their own: 12 rows for each, tiles of 128.
ROWS = {*range(1, 4), 127, 128, 129, 257}
ROWS |= {at + more for at in (12, 24, 36) for more in (0, 1)}


@pytest.mark.parametrize("kv", KV_FORMS)
@pytest.mark.parametrize(
    "counts",
    [sorted(ROWS), pytest.param(range(1, 301), marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_rows_have_the_same_bits_whoever_computes_them(
    paths: list[str], counts: Sequence[int], kv: Kv
) -> None:
    """However many there are, on one thread, two or three."""
    config = tiny_config(max_positions=300, hidden_size=40, intermediate_size=200, qkv_bias=True)
    torch.manual_seed(5)
    module = quantized(Transformer(config), "int8")
    ids = torch.randint(256, (max(counts),)).tolist()
    table = torch.randperm(19).tolist()

    def computed(executor: NativeExecutor, start: int, end: int) -> Tensor:
        """Hidden states and logits of a part of the text."""
        span = SequenceSpan(table, start, end)
        hidden = executor.hidden(ids[start:end], range(start, end), [span], None)
        return torch.cat((hidden, executor.logits(hidden)), dim=1)

    for name in paths:
        with on_path(name):
            torch.set_num_threads(1)
            executor = NativeExecutor(module, 19, 16, kv)
            truth = torch.cat([computed(executor, i, i + 1) for i in range(max(counts))])
            for threads, count in itertools.product((1, 2, 3), counts):
                torch.set_num_threads(threads)
                found = computed(executor, 0, count)
                assert torch.equal(found, truth[:count]), (name, threads, count)


@pytest.mark.parametrize(
    "wanted", [(1, 0, 1, 1), (0, 0, 0, 0), (30, 1, 0, 1), (1,) * 9, (2, 0) * 6]
)
def test_rows_that_are_wanted_have_the_bits_of_all_rows(
    paths: list[str], wanted: tuple[int, ...]
) -> None:
    """Scattered, side by side, none, and more stretches than are told apart."""
    torch.manual_seed(6)
    module = quantized(Transformer(tiny_config(max_positions=300)), "int8")
    ids = torch.randint(256, (40 * len(wanted),)).tolist()
    positions = [*range(40)] * len(wanted)
    tables = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(len(wanted))]

    def computed(executor: NativeExecutor, some: Sequence[int | None]) -> list[Tensor]:
        spans = [SequenceSpan(t, 0, 40, wanted=n) for t, n in zip(tables, some, strict=True)]
        hidden = executor.hidden(ids, positions, spans, None).clone()
        # What later tokens see must be there, whether the row itself was wanted or not.
        after = [SequenceSpan(t, 40, 41) for t in tables]
        hidden = torch.cat(
            (hidden, executor.hidden([7] * len(tables), [40] * len(tables), after, None))
        )
        return list(hidden.split([40] * len(tables) + [1] * len(tables)))

    for name, threads in itertools.product(paths, (1, 2)):
        with on_path(name):
            torch.set_num_threads(threads)
            executor = NativeExecutor(module, 3 * len(wanted), 16, "int8")
            truth, found = computed(executor, [None] * len(wanted)), computed(executor, wanted)
            for count, whole, part in zip(
                (*wanted, *(1,) * len(wanted)), truth, found, strict=True
            ):
                assert torch.equal(whole[len(whole) - count :], part[len(part) - count :])


ENCODERS = ("BertModel", "RobertaModel", "AlbertModel", "DistilBertModel", "ModernBertModel")


@pytest.mark.parametrize("architecture", [*ENCODERS, "MPNetModel", "Qwen3Model", "T5EncoderModel"])
def test_sequences_end_to_end_give_the_bits_of_each_alone(architecture: str) -> None:
    module = quantized(PLAIN[architecture].drawn("plain"), "q4")
    rows = [[5 + 3 * i % 50 for i in range(n)] for n in (1, 40, 16, 3, 17, 40)]
    found = encoded_natively(module, rows)
    for row, hidden in zip(rows, found, strict=True):
        assert torch.equal(hidden, encoded_natively(module, [row])[0])


def test_padding_within_a_text_takes_no_position() -> None:
    """What an encoder of RoBERTa's kind makes of a padding token among others."""
    module = quantized(PLAIN["RobertaModel"].drawn("plain"), "int8")
    pad = module.config.position_pad
    assert pad is not None
    rows = [[7, 8, pad, 9, 10], [11, 12, 13]]
    context = ForwardContext(Rounding("bfloat16"))
    wanted = [module.varlen_hidden(torch.tensor(row), [len(row)], context=context) for row in rows]
    for hidden, expected in zip(encoded_natively(module, rows), wanted, strict=True):
        assert relative(hidden, expected) < EXACT


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "AlbertForMaskedLM"])
def test_words_in_the_place_of_masks(architecture: str) -> None:
    """The head of an encoder: a dense layer, a norm, the table, a bias."""
    module = quantized(PLAIN[architecture].drawn("plain"), "int8")
    given = torch.randn(4, module.config.hidden_size, generator=torch.Generator().manual_seed(3))
    program = Program(lower([trace_logits(module)]), module.config)
    wanted = module.logits(given, ForwardContext(Rounding("bfloat16")))
    assert relative(program.run(4, given=given)[:, : module.config.vocab_size], wanted) < EXACT


@pytest.mark.parametrize("kv", KV_FORMS)
@pytest.mark.parametrize(
    "architecture",
    [
        *("LlamaForCausalLM", "Gemma2ForCausalLM", "MptForCausalLM"),
        *("BertModel", "T5ForConditionalGeneration"),
    ],
)
def test_every_path_gives_nearly_what_the_portable_one_gives(
    paths: list[str], architecture: str, kv: Kv
) -> None:
    """Products in bfloat16 round more than those of the portable path."""
    case = PLAIN[architecture]
    module = quantized(case.ours("plain"), "int8")
    values = inputs(case, "plain", 13)
    for name in paths[:-1]:
        with on_path(name):
            assert differences(module, values, kv) < FLIPPED, name
