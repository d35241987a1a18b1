"""Summaries and translations equal transformers' generation with the old pipelines' rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors

import lmstack
from lmstack.core import InputError, UnsupportedError
from lmstack.registry import load

from .conftest import Both, Make

WORDS = ("ada", "engine", "green", "paris", "works", "in", "is", "the", "wrote", "note")
PREFIXES = ("summarize:", "translate", "English", "to", "German:", "French:")
LIMIT = 24
SEARCH = {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 2}
PARAMS = {
    "summarization": {"prefix": "summarize: ", "max_length": 10, "min_length": 4, **SEARCH},
    "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 9},
    "translation_en_to_fr": {"prefix": "translate English to French: ", "max_length": 9},
}
TEXTS = ("ada works in paris .", "the engine is green", "note .")
LONG = " ".join(f"ada wrote the note {word} ." for word in WORDS)


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A word a token, and T5's end."""
    names = ["<pad>", "</s>", "<unk>", *WORDS, *PREFIXES, ".", "x"]
    made = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LIMIT,
        model_input_names=["input_ids", "attention_mask"],
    )


def built(folder: Any, params: dict[str, Any] | None) -> Both:
    tokenizer = word_tokenizer()
    config = transformers.T5Config(
        **{"vocab_size": len(tokenizer), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2},
        **{"num_heads": 4, "decoder_start_token_id": 0},
        task_specific_params=params,
    )
    torch.manual_seed(11)
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():  # large enough that no two beams are nearly alike
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Both(model, tokenizer, load(folder), folder)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return built(tmp_path_factory.mktemp("t5"), PARAMS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return built(tmp_path_factory.mktemp("bare"), None)


@pytest.fixture(scope="module")
def summarize(t5: Both) -> Iterator[Any]:
    made = lmstack.task("summarization", t5.ours)
    yield made
    made.close()


def theirs(both: Both, text: str, **settings: Any) -> str:
    """As transformers 4's pipelines: the prefix, then ``generate`` with the task's settings."""
    given = both.tokenizer(settings.pop("prefix", "") + text, return_tensors="pt")
    with torch.no_grad():
        ids = both.model.generate(**given, do_sample=False, **settings)
    return str(both.tokenizer.decode(ids[0], skip_special_tokens=True)).strip()


def plain(text: str) -> str:
    return text.replace(" ", "")


def test_summaries_are_those_of_transformers_with_the_models_own_settings(
    t5: Both, summarize: Any
) -> None:
    found = summarize(TEXTS)
    expected = [theirs(t5, text, **PARAMS["summarization"]) for text in TEXTS]
    assert [plain(each.text) for each in found] == [plain(text) for text in expected]
    assert len({each.text for each in found}) > 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("translation_en_to_de", {}),
        ("translate", {"target": "de"}),
        ("translate", {"source": "en", "target": "fr"}),
        ("translate", {"prefix": "x "}),
    ],
)
def test_the_prefix_of_a_translation_goes_by_its_languages(
    t5: Both, name: str, options: dict[str, str]
) -> None:
    key = "translation_en_to_fr" if options.get("target") == "fr" else "translation_en_to_de"
    settings = {"prefix": "x ", "max_length": 257} if "prefix" in options else PARAMS[key]
    options = {**options, "max_tokens": 12} if "prefix" in options else options
    settings = {**settings, "max_length": 13} if "prefix" in options else settings
    made = lmstack.task(name, t5.ours, **options)
    found = [plain(each.text) for each in made(TEXTS)]
    made.close()
    assert found == [plain(theirs(t5, text, **settings)) for text in TEXTS]


def test_prefixes_change_what_is_written(t5: Both, bare: Both) -> None:
    texts = set()
    for target in ("de", "fr"):
        made = lmstack.task("translate", t5.ours, target=target)
        texts.add(str(made(TEXTS)))
        made.close()
    assert len(texts) == 2


def test_given_options_win_over_the_models(t5: Both, summarize: Any) -> None:
    found = summarize(TEXTS[0], num_beams=1, max_tokens=3, prefix="")
    settings = {"max_new_tokens": 3, "min_length": 4, "no_repeat_ngram_size": 2}
    assert plain(found.text) == plain(theirs(t5, TEXTS[0], **settings))


def test_a_model_without_settings_is_greedy(bare: Both) -> None:
    made = lmstack.task("summarize", bare.ours, max_tokens=8)
    found = [plain(each.text) for each in made(TEXTS)]
    made.close()
    assert found == [plain(theirs(bare, text, max_new_tokens=8)) for text in TEXTS]


def test_a_long_text_is_summarized_in_pieces_that_the_encoder_sees(
    t5: Both, summarize: Any
) -> None:
    found = summarize(LONG)
    pieces = summarize.pieces(LONG, "summarize: ")
    assert found.parts == len(pieces) > 2
    for piece in pieces:
        assert len(t5.tokenizer("summarize: " + piece.text)["input_ids"]) <= LIMIT
    apart = [each.text for each in summarize([piece.text for piece in pieces])]
    assert found.text == " ".join(apart).strip()


def test_paragraphs_of_a_translation_stay_apart(t5: Both) -> None:
    made = lmstack.task("translation_en_to_de", t5.ours)
    found = made(f"{TEXTS[0]}\n\n{TEXTS[1]}")
    alone = [each.text for each in made(TEXTS[:2])]
    made.close()
    assert found.text == "\n\n".join(alone)
    assert found.parts == 2


def test_an_empty_text_is_rewritten_as_nothing(summarize: Any) -> None:
    assert summarize(["", TEXTS[0]])[0].text == ""


def test_a_pair_of_languages_must_be_known_and_single(t5: Both, bare: Both) -> None:
    with pytest.raises(InputError, match="translates en to de, en to fr, asked for any to any"):
        lmstack.task("translate", t5.ours)("ada")
    with pytest.raises(InputError, match="asked for any to ro"):
        lmstack.task("translate", t5.ours, target="ro")("ada")
    with pytest.raises(InputError, match="asked for any to de") as caught:
        lmstack.task("translate", bare.ours, target="de")("ada")
    assert caught.value.param == "target"


def test_a_prefix_that_fills_the_window_is_refused(summarize: Any) -> None:
    with pytest.raises(InputError, match="the prefix fills the 24 tokens") as caught:
        summarize("ada", prefix="x " * 30)
    assert caught.value.param == "prefix"


def test_an_encoder_does_not_summarize(make: Make) -> None:
    with pytest.raises(UnsupportedError, match="cannot do summarization"):
        lmstack.task("summarization", make("BertModel").ours)
