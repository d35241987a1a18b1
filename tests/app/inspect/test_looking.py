"""Looking into a model: attention weights, expectations, their pictures and the commands."""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tokenizers
import torch
from matplotlib import font_manager
from tests.byte_tokens import byte_level
from tokenizers import decoders, models, pre_tokenizers

from lmstack.app import wiring
from lmstack.app.inspect.attention_picture import draw_attention, draw_head
from lmstack.app.inspect.looking import MAX_TOKENS, AttentionWeights, expectations, label, look
from lmstack.app.inspect.token_picture import draw_expectations, percent
from lmstack.app.report.drawing import Sheet
from lmstack.core import ExtraMissingError, InputError, UnsupportedError
from lmstack.model import Transformer, TransformerConfig
from lmstack.registry import GenerationDefaults, LoadedModel
from lmstack.text import Tokenizer

if TYPE_CHECKING:
    from tests.app.conftest import Run

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 8,
    "max_positions": 400,
}
TEXT = "The fox é"
CONTROL = ("<pad>", "</s>", "[MASK]")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Every byte, three control tokens."""
    names = {"eos_token": "</s>", "pad_token": "<pad>", "mask_token": "[MASK]"}
    return Tokenizer.from_json(byte_level(*CONTROL, first=CONTROL).to_str(), names)


def model(tokenizer: Tokenizer, **shape: Any) -> LoadedModel:
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**{**SIZE, **shape}))
    module.reset_parameters(0.5)
    end, start = tokenizer.id_of("</s>"), tokenizer.id_of("<pad>")
    assert end is not None
    defaults = GenerationDefaults(frozenset([end]), decoder_start_id=start)
    return LoadedModel("tiny", None, module, tokenizer, None, defaults)


@pytest.fixture(scope="module")
def decoder(tokenizer: Tokenizer) -> LoadedModel:
    return model(tokenizer, num_layers=3, causal=True, head="lm")


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> LoadedModel:
    return model(tokenizer, num_layers=2, causal=False, head="lm")


@pytest.fixture(scope="module")
def both(tokenizer: Tokenizer) -> LoadedModel:
    inner = TransformerConfig(**SIZE, num_layers=2, causal=False, head="none")
    return model(tokenizer, num_layers=3, causal=True, head="lm", encoder=inner)


def test_weights_of_a_decoder_sum_to_one_and_never_look_ahead(decoder: LoadedModel) -> None:
    [found] = look(decoder, TEXT)
    assert found.weights.shape == (3, 4, 10, 10)
    assert np.allclose(found.weights.sum(-1), 1, atol=1e-5)
    assert (np.triu(found.weights, 1) == 0).all()
    assert found.queries == found.keys == (*"The", "␣", *"fox", "␣", "\\xc3", "\\xa9")


def test_an_encoder_looks_both_ways(encoder: LoadedModel) -> None:
    [found] = look(encoder, TEXT)
    assert (found.part, found.causal) == ("encoder", False)
    assert (found.weights > 0).all()


def test_the_three_attentions_of_an_encoder_decoder_join_the_right_tokens(
    both: LoadedModel,
) -> None:
    encoder, decoder, cross = look(both, "fox", "ab")
    assert [p.part for p in (encoder, decoder, cross)] == ["encoder", "decoder", "cross"]
    assert encoder.weights.shape == (2, 4, 3, 3)
    assert decoder.weights.shape == (3, 4, 3, 3)
    assert cross.weights.shape == (3, 4, 3, 3)
    assert (cross.queries, cross.keys) == (("<pad>", "a", "b"), ("f", "o", "x"))
    assert (np.triu(decoder.weights, 1) == 0).all()
    assert (np.triu(cross.weights, 1) > 0).any()


def test_without_a_target_the_decoder_reads_what_it_writes_greedily(both: LoadedModel) -> None:
    ids = torch.tensor([both.tokenizer.encode("fox")])
    written = [0]
    while len(written) < 25 and written[-1] != 1:
        logits = both.module(ids, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
    expected = tuple(label(both.tokenizer, i) for i in written)
    assert look(both, "fox")[2].queries == expected


def test_the_busiest_head_is_the_one_that_picks_single_tokens() -> None:
    weights = np.full((2, 3, 6, 6), 1 / 6, np.float32)
    weights[0, 1] = np.eye(6)  # each at itself
    weights[1, 0] = np.eye(6, k=-1)  # each at the one before
    weights[0, 2] = np.eye(6)[[0] * 6]  # all at the first
    weights[1, 2] = np.eye(6)[[0, 0, 0, 1, 2, 3]]  # each at the second before
    found = AttentionWeights("decoder", weights, tuple("abcdef"), tuple("abcdef"), True)
    assert found.busiest_head() == (1, 2)
    assert found.busiest_head(0)[0] == 0


def test_entropy_surprise_and_ranks_are_those_of_the_logits(decoder: LoadedModel) -> None:
    found = expectations(decoder, TEXT, top=4)
    ids = decoder.tokenizer.encode(TEXT)
    logits = decoder.module(torch.tensor([ids])).logits[0].double()
    probabilities = logits.softmax(-1).detach().numpy()
    for place, (e, row) in enumerate(zip(found, probabilities, strict=True)):
        assert e.position == place
        assert math.isclose(e.entropy, -(row * np.log2(row)).sum(), abs_tol=1e-6)
        assert [c.id for c in e.top] == np.argsort(-row)[:4].tolist()
        if place + 1 == len(ids):
            assert (e.actual, e.surprise) == (None, None)
            continue
        actual, following = e.actual, ids[place + 1]
        assert actual is not None
        assert actual.id == following
        assert actual.rank == 1 + int((row > row[following]).sum())
        assert math.isclose(e.surprise or 0, -math.log2(row[following]), abs_tol=1e-6)


def test_a_masked_model_never_sees_the_token_it_is_asked_for(encoder: LoadedModel) -> None:
    """Changing a token leaves what is expected in its place as it was."""
    first, second = (expectations(encoder, text) for text in ("abcd", "abXd"))
    assert [c.probability for c in first[2].top] == [c.probability for c in second[2].top]
    assert first[1].top != second[1].top
    assert [e.actual.text for e in second if e.actual] == list("abXd")


def test_an_encoder_decoder_expects_what_its_decoder_reads_next(both: LoadedModel) -> None:
    found = expectations(both, "fox", "ab")
    assert [e.text for e in found] == ["<pad>", "a", "b"]
    assert [e.actual.text if e.actual else None for e in found] == ["a", "b", None]


def test_tokens_are_labelled_as_a_person_reads_them(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, "to": 1, "##ken": 2}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    words = Tokenizer.from_json(made.to_str())
    assert [label(words, i) for i in words.encode("to token")] == ["to", "to", "##ken"]


@pytest.mark.parametrize(
    ("name", "text", "target", "kind", "named"),
    [
        ("decoder", "", None, InputError, "no tokens"),
        ("decoder", "a" * (MAX_TOKENS + 1), None, InputError, str(MAX_TOKENS + 1)),
        ("decoder", "a", "b", InputError, "no decoder of its own"),
        ("both", "a", "b" * MAX_TOKENS, InputError, str(MAX_TOKENS + 1)),
    ],
)
def test_what_cannot_be_looked_at_is_said(
    request: pytest.FixtureRequest, name: str, text: str, target: str, kind: type, named: str
) -> None:
    with pytest.raises(kind, match=named):
        look(request.getfixturevalue(name), text, target)


def test_a_model_without_a_language_head_expects_nothing(tokenizer: Tokenizer) -> None:
    headless = model(tokenizer, num_layers=1, causal=False, head="none")
    with pytest.raises(UnsupportedError, match="predicts no tokens"):
        expectations(headless, "a")


# Pictures


def texts_of(path: Path) -> list[str]:
    """Every text of an SVG, which keeps text as text."""
    return ["".join(e.itertext()) for e in ElementTree.parse(path).iter() if e.tag.endswith("text")]


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_attention_picture_names_tokens_layers_heads_and_parts(
    both: LoadedModel, tmp_path: Path
) -> None:
    parts = look(both, "a $x$ <b>", "q_1^2")
    path = tmp_path / "a.svg"
    draw_attention(path, "tiny", parts, parts[2], 1, 3)
    texts = texts_of(path)
    assert [t for t in texts if t.startswith(("Encoder", "Decoder"))] == [
        *("Encoder over itself", "Decoder over itself", "Decoder over encoder"),
    ]
    assert any(t.startswith("Layer 1, head 3 (cross)") for t in texts)
    # Tokens as they are: no mathematics, no markup.
    assert {"$", "<", ">", "^", "␣"} <= set(texts)


def test_every_token_of_forty_has_room_for_its_name(decoder: LoadedModel, tmp_path: Path) -> None:
    parts = look(decoder, "x" * 40)
    draw_attention(tmp_path / "a.png", "tiny", parts, parts[0], 0, 0)
    draw_head(tmp_path / "h.png", "tiny", parts[0], 0, 0)
    assert min(size_of(tmp_path / "h.png")) > 40 * 20  # pixels a token
    assert size_of(tmp_path / "a.png")[1] > size_of(tmp_path / "h.png")[1]


def test_a_longer_text_makes_a_larger_picture_of_what_is_expected(
    decoder: LoadedModel, tmp_path: Path
) -> None:
    heights = []
    for count in (5, 30):
        path = tmp_path / f"{count}.png"
        draw_expectations(path, "tiny", expectations(decoder, "y" * count), in_place=False)
        heights.append(size_of(path)[1])
    assert heights[1] - heights[0] == pytest.approx(25 * 0.27 * 144, abs=2)


def test_the_picture_of_what_is_expected_holds_every_candidate_and_what_came(
    decoder: LoadedModel, tmp_path: Path
) -> None:
    found = expectations(decoder, "ab", top=3)
    draw_expectations(tmp_path / "t.svg", "tiny", found, in_place=False)
    texts = texts_of(tmp_path / "t.svg")
    for e in found:
        assert [percent(c.probability) in texts for c in e.top] == [True] * 3
    assert "in the text" in texts


def test_the_same_picture_is_the_same_bytes(decoder: LoadedModel, tmp_path: Path) -> None:
    parts = look(decoder, "ab")
    for kind in ("svg", "png"):
        paths = [tmp_path / f"{n}.{kind}" for n in range(2)]
        for path in paths:
            draw_head(path, "tiny", parts[0], 0, 0)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_letters_that_no_font_has_are_escaped_and_others_kept() -> None:
    sheet = Sheet(1, 1)
    assert sheet.drawable("Größe Ωж␣↵") == "Größe Ωж␣↵"
    assert sheet.drawable("\U000e0041") == "\\U000e0041"
    assert sheet.drawable("abcdef", 4) == "abc…"


def test_a_light_face_of_the_same_family_takes_no_letters_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = font_manager.fontManager
    few = font_manager.findfont("cmr10")
    assert ord("␣") not in font_manager.get_font(few).get_charmap()
    light = font_manager.FontEntry(fname=few, name="DejaVu Sans", weight=200)
    monkeypatch.setattr(manager, "ttflist", [*manager.ttflist, light])
    assert Sheet(1, 1).drawable("␣↵") == "␣↵"


def test_a_bold_title_is_judged_by_the_letters_of_the_bold_face() -> None:
    sheet = Sheet(1, 1)
    regular = "\U0001d5a0"  # a sans-serif capital A of mathematics, which the bold face lacks
    sheet.text(0, 0, regular)
    sheet.text(0, 0, regular, fontweight="bold")
    assert [text.get_text() for text in sheet.figure.texts] == [regular, "\\U0001d5a0"]


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "100 %"), (0.5, "50 %"), (0.0995, "10 %"), (0.042, "4.2 %"), (0.0005, "<0.1 %")],
)
def test_shares_have_two_figures(probability: float, text: str) -> None:
    assert percent(probability) == text


# Commands


@pytest.fixture
def looking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, both: LoadedModel, decoder: LoadedModel
) -> Path:
    """``both`` and ``decoder`` by their names, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    found = {"both": both, "decoder": decoder}
    monkeypatch.setattr(wiring, "model_to_inspect", found.__getitem__)
    return tmp_path


def test_a_picture_is_written_unless_json_is_asked_for(run: Run, looking: Path) -> None:
    ran = run("model", "inspect", "attention", "decoder", "fox")
    assert (ran.code, ran.out) == (0, "wrote attention.png\n")
    assert size_of(looking / "attention.png")
    (looking / "attention.png").unlink()
    assert run("model", "inspect", "attention", "decoder", "fox", "--json").json["picture"] is None
    assert list(looking.iterdir()) == []
    both = run("model", "inspect", "attention", "decoder", "fox", "--json", "-o", "x.svg")
    assert both.json["picture"] == "x.svg"
    assert (looking / "x.svg").exists()


def test_json_has_the_weights_of_what_is_chosen(run: Run, looking: Path, both: LoadedModel) -> None:
    typed = ["model", "inspect", "attention", "both", "fox", "--target", "ab", "--json"]
    whole = run(*typed).json["attention"]
    assert [part["part"] for part in whole] == ["encoder", "decoder", "cross"]
    assert np.shape(whole[2]["weights"]) == (3, 4, 3, 3)
    [chosen] = run(*typed, "--layer", "1", "--head", "2", "--part", "decoder").json["attention"]
    assert chosen["tokens"] == ["<pad>", "a", "b"]
    assert chosen["weights"] == whole[1]["weights"][1][2]
    expected = look(both, "fox", "ab")[1].weights[1, 2]
    assert np.abs(np.array(chosen["weights"]) - expected).max() < 1e-5


def test_one_head_is_drawn_alone(run: Run, looking: Path) -> None:
    run("model", "inspect", "attention", "decoder", "fox", "-o", "all.svg", "--layer", "2")
    run(
        "model",
        "inspect",
        "attention",
        "decoder",
        "fox",
        "-o",
        "one.svg",
        "--layer",
        "2",
        "--head",
        "1",
    )
    whole, one = texts_of(looking / "all.svg"), texts_of(looking / "one.svg")
    assert any(text.startswith("Layer 2, head") for text in whole)
    assert any(text.startswith("Layer 2, head 1 ") for text in one)
    assert "Decoder over itself" in whole
    assert "Decoder over itself" not in one


def test_expectations_are_printed_drawn_and_given_as_json(run: Run, looking: Path) -> None:
    ran = run("model", "inspect", "tokens", "decoder", "fox", "-o", "t.svg")
    first, second = ran.out.splitlines()
    assert re.fullmatch(r"\d+\.\d\d bits a token on average, perplexity \d+\.\d", first)
    assert second == "wrote t.svg"
    found = run("model", "inspect", "tokens", "decoder", "fox", "--json", "--top", "2").json
    assert found["perplexity"] == pytest.approx(2 ** found["mean_surprise_bits"])
    assert [t["text"] for t in found["tokens"]] == list("fox")
    assert [len(t["top"]) for t in found["tokens"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("typed", "code", "named"),
    [
        (["attention", "decoder", "a", "--head", "1"], 2, "has no --layer"),
        (["attention", "decoder", "a", "--layer", "3"], 1, "--layer is 3"),
        (["attention", "decoder", "a", "--layer", "0", "--head", "4"], 1, "--head is 4"),
        (["attention", "decoder", "a", "--part", "cross"], 1, "no cross attention"),
        (["attention", "decoder", "a", "-o", "x.jpg"], 1, "'x.jpg'"),
        (["attention", "decoder", "a", "-o", "no/x.png"], 1, "'no'"),
        (["tokens", "decoder", "a", "-o", "x"], 1, "'x'"),
        (["tokens", "decoder", "a", "--top", "0"], 2, "--top"),
        (["atention", "decoder", "a"], 2, "'atention'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    run: Run, looking: Path, typed: list[str], code: int, named: str
) -> None:
    ran = run("model", "inspect", *typed)
    assert ran.code == code
    assert named in ran.err.splitlines()[0]
    assert list(looking.iterdir()) == []


def test_a_missing_library_names_the_extra_and_json_needs_none(
    run: Run, looking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, extra: str) -> None:
        raise ExtraMissingError("matplotlib", hint=f"pip install 'lmstack[{extra}]'")

    monkeypatch.setattr("lmstack.app.report.drawing.require", missing)
    ran = run("model", "inspect", "attention", "decoder", "fox")
    assert ran.code == 1
    assert "lmstack[pictures]" in ran.err
    assert run("model", "inspect", "attention", "decoder", "fox", "--json").code == 0


def test_inspect_with_a_model_still_means_its_parts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def inspect(name: str) -> None:
        asked.append(name)
        raise InputError("seen")

    monkeypatch.setattr(wiring, "inspect", inspect)
    for typed in (["m"], ["--json", "m"], ["m", "--json"], ["model", "m"], ["./attention"]):
        run("model", "inspect", *typed)
    assert asked == ["m", "m", "m", "m", "./attention"]
