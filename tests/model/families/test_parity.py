"""Every family against transformers: outputs, folders, greedy tokens, and the traps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from _pytest.mark import ParameterSet

from lmstack.model import TransformerOutput, write_folder
from lmstack.model.families import config_from_json, config_to_json

from .all_cases import CASES
from .cases import Case, alone, batch, positions, sprung, tensor_names

FIRST = {case.architecture for case in {case.family: case for case in reversed(CASES)}.values()}


def variants(is_usual: Callable[[Case, str], bool]) -> list[ParameterSet]:
    """All variants of all cases; the long suite alone has those that are not usual."""
    return [
        pytest.param(
            case,
            name,
            id=f"{case.architecture}-{name}",
            marks=() if is_usual(case, name) else pytest.mark.long,
        )
        for case in CASES
        for name in case.names
    ]


VARIANTS = variants(lambda *_: True)
TRAPS = [
    pytest.param(case, trap, id=f"{case.architecture}-{name}")
    for case in CASES
    for name, trap in case.traps.items()
]


def _writes(case: Case) -> bool:
    return case.architecture.endswith(
        ("CausalLM", "LMHeadModel", "ConditionalGeneration", "MTModel")
    )


# The names of heads and variants are those that the tests of logits read.
WRITTEN = variants(lambda case, name: case.architecture in FIRST and name == "plain")
# Of each family one class, and what depends on how many tokens there are.
GREEDY = [
    param
    for param in variants(
        lambda case, name: case.architecture in FIRST and name in ("plain", *case.stepwise)
    )
    if _writes(case := param.values[0]) and param.values[1] not in case.not_greedy
]
# Of the first class of a family all kinds of padding; of every other and of variants one each, in
# turn.
PADDED = [
    pytest.param(
        *param.values,
        padding,
        id=f"{param.id}-{padding}",
        marks=()
        if place == number % 3 or (param.values[0].architecture in FIRST and "-plain" in param.id)
        else pytest.mark.long,
    )
    for number, param in enumerate(VARIANTS)
    for place, padding in enumerate(("none", "left", "right"))
]


@torch.no_grad()
def their_output(case: Case, variant: str, values: dict[str, torch.Tensor]):
    more = {}
    if case.given_positions and "attention_mask" in values:
        more["position_ids"] = positions(values["attention_mask"])
    return case.theirs(variant)(**values, **more, output_hidden_states=True)


def pairs(ours, theirs, values):
    """(name, ours, theirs, mask of real places) of all that both give."""
    mask = values.get("attention_mask")
    decoder = "decoder_input_ids" in values
    inner, outer = (values.get("decoder_attention_mask"), mask) if decoder else (mask, None)
    if ours.logits is not None:
        logits = getattr(theirs, "logits", None)
        if logits is None:
            logits = torch.stack((theirs.start_logits, theirs.end_logits), dim=-1)
        if logits.dim() < ours.logits.dim():  # one score, without a dimension for it
            logits = logits[..., None]
        yield "logits", ours.logits, logits, inner if logits.dim() == 3 else None
    if ours.pooled is not None:
        yield "pooled", ours.pooled, theirs.pooler_output, None
    states = theirs.decoder_hidden_states if decoder else theirs.hidden_states
    assert len(ours.hidden_states) == len(states)
    for i, (a, b) in enumerate(zip(ours.hidden_states, states, strict=True)):
        yield f"hidden {i}", a, b, inner
    if decoder:
        encoder = zip(ours.encoder_hidden_states, theirs.encoder_hidden_states, strict=True)
        for i, (a, b) in enumerate(encoder):
            yield f"encoder {i}", a, b, outer


def row_of(output, values, row):
    """One row of our output for a batch, at its real places."""
    masks = [values.get(f"{name}attention_mask") for name in ("", "decoder_")]
    inner, outer = (slice(None) if mask is None else mask[row].bool() for mask in masks)
    own = outer if "decoder_input_ids" in values else inner

    def cut(x, places):
        return None if x is None else x[row : row + 1, places] if x.dim() == 3 else x[row : row + 1]

    states = output.encoder_hidden_states or ()
    return TransformerOutput(
        logits=cut(output.logits, own),
        last_hidden_state=cut(output.last_hidden_state, own),
        pooled=cut(output.pooled, own),
        hidden_states=tuple(cut(x, own) for x in output.hidden_states),
        encoder_hidden_states=tuple(cut(x, inner) for x in states),
    )


def assert_alike(ours, theirs, values):
    for name, a, b, mask in pairs(ours, theirs, values):
        if mask is not None:
            a, b = a[mask.bool()], b[mask.bool()]
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("case", "variant", "padding"), PADDED)
def test_logits_and_hidden_states_are_those_of_transformers(case, variant, padding):
    values = batch(case, variant, padding)
    with torch.no_grad():
        ours = case.ours(variant)(**values)
    if padding == "left" and case.alone:
        for row in range(len(values["input_ids"])):
            one = alone(values, row)
            assert_alike(row_of(ours, values, row), their_output(case, variant, one), one)
    else:
        assert_alike(ours, their_output(case, variant, values), values)


def _kept(config) -> dict:
    """What a loaded model keeps of a config.json beside the facts of the forward pass."""
    names = ("model_type", "bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(config, name, None) for name in names}


@pytest.mark.parametrize(("case", "variant"), WRITTEN)
def test_a_written_folder_has_their_names_and_loads_bit_equal_in_transformers(
    case, variant, tmp_path
):
    model = case.theirs(variant)
    write_folder(case.ours(variant), tmp_path, _kept(model.config))
    named = {name for name in case.names_saved(variant) if not name.endswith(case.computed)}
    assert tensor_names(tmp_path) == named
    back, report = getattr(transformers, case.architecture).from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    report["missing_keys"] = {k for k in report["missing_keys"] if not k.endswith(case.computed)}
    assert not any(report[key] for key in report), report
    expected = model.state_dict()
    found = back.state_dict()
    assert found.keys() == expected.keys()
    wrong = [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])]
    assert not wrong
    values = batch(case, variant, "none")
    torch.testing.assert_close(back.eval()(**values)[0], their_output(case, variant, values)[0])


@pytest.mark.parametrize(("case", "variant"), VARIANTS)
def test_settings_that_a_file_leaves_out_or_we_write_are_those_of_transformers(case, variant):
    config = case.config(variant)
    kept = {"architectures": [case.architecture], "model_type": config.model_type}
    whole = config_from_json(config.to_dict() | kept)
    assert config_from_json(config.to_diff_dict() | kept) == whole
    _, written = config_to_json(whole, config.model_type)
    assert config_from_json(type(config).from_dict(written).to_dict() | kept) == whole


@pytest.mark.parametrize(("case", "variant"), GREEDY)
@torch.no_grad()
def test_sixteen_greedy_tokens_are_those_of_transformers(case, variant):
    prompt = batch(case, variant, "none")
    values = {k: v for k, v in prompt.items() if k != "decoder_input_ids"}
    stepwise = variant in case.stepwise
    theirs = case.theirs(variant).generate(
        **values,
        max_new_tokens=16,
        min_new_tokens=16,
        do_sample=False,
        use_cache=not stepwise,
        pad_token_id=0,
        eos_token_id=None,
    )
    ours = case.ours(variant)
    if "decoder_input_ids" in prompt:
        start, key = 1, "decoder_input_ids"
    else:
        start, key = prompt["input_ids"].shape[1], "input_ids"
    if stepwise:
        ids = theirs[:, :start]
        for _ in range(16):
            ids = torch.cat((ids, ours(**values | {key: ids}).logits[:, -1:].argmax(-1)), dim=1)
        assert ids.tolist() == theirs.tolist()
        return
    # One pass over their tokens: the first that ours would not choose is where the two part.
    logits = ours(**values | {key: theirs[:, :-1]}).logits
    assert logits.argmax(-1)[:, start - 1 :].tolist() == theirs[:, start:].tolist()


@pytest.mark.long
@pytest.mark.parametrize(("case", "trap"), TRAPS)
@torch.no_grad()
def test_a_trap_moves_the_logits(case, trap):
    """The weights of these tests are such that each mistake would be seen."""
    values = batch(case, trap.variant, "none")
    right, wrong = case.ours(trap.variant)(**values), sprung(case, trap)(**values)
    given = (n for n in ("logits", "pooled") if getattr(right, n) is not None)
    name = next(given, "last_hidden_state")
    assert (getattr(right, name) - getattr(wrong, name)).abs().max() > 1e-3
