"""Generation and chat: equal to transformers' pipeline when greedy, each prompt as if alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import lmstack
from lmstack.core import InputError, Message, UnsupportedError
from lmstack.registry import load
from lmstack.serve import LocalModel

from .conftest import Both, byte_level

PROMPTS = ["a in", "the engine works", "?", "in in in in in in a"]
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Both:
    tokenizer = byte_level()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    torch.manual_seed(5)
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Both(model, tokenizer, load(folder), folder)


@pytest.fixture(scope="module")
def generate(gpt2: Both) -> Iterator[Any]:
    made = lmstack.task("text-generation", gpt2.ours, temperature=0, max_tokens=12)
    yield made
    made.close()


def test_greedy_texts_are_those_of_transformers(gpt2: Both, generate: Any) -> None:
    theirs = gpt2.pipeline("text-generation")
    for prompt, found in zip(PROMPTS, generate(PROMPTS), strict=True):
        [expected] = theirs(
            prompt,
            max_new_tokens=12,
            do_sample=False,
            return_full_text=False,
            tokenizer_encode_kwargs={"add_special_tokens": True},
        )
        assert found.text == expected["generated_text"]


def test_a_prompt_gives_the_same_among_others(generate: Any) -> None:
    options = {"temperature": 1.0, "seed": 3}
    assert generate(PROMPTS, **options) == [generate(prompt, **options) for prompt in PROMPTS]


def test_several_choices_come_with_the_first(generate: Any) -> None:
    found = generate("a", n=3, temperature=1.0, seed=1)
    assert found.text == generate("a", temperature=1.0, seed=1).text
    assert len(found.others) == 2
    assert found.to_json()["others"] == list(found.others)


def test_more_prompts_than_an_engine_queues_are_all_answered(generate: Any) -> None:
    found = generate([f"a {i}" for i in range(150)], max_tokens=1)
    assert len(found) == 150


def test_a_prompt_that_does_not_fit_is_our_error_and_not_a_group(generate: Any) -> None:
    with pytest.raises(lmstack.LmstackError, match="tokens"):
        generate(["a", "b " * 200])


async def test_it_runs_where_a_loop_runs_already(generate: Any) -> None:
    await asyncio.sleep(0)
    assert generate("a in").text == generate(["a in"])[0].text


def test_chat_puts_a_text_into_the_template(gpt2: Both, generate: Any) -> None:
    chat = lmstack.task("chat", gpt2.ours, temperature=0, max_tokens=6)
    try:
        message = {"role": "user", "content": "a"}
        said = chat("a")
        assert said == chat([message]) == chat([Message("user", "a")])
        assert chat([[message], "a"]) == [said, said]
        assert generate([message], max_tokens=6) == said
        plain = generate("<s>[user]a[assistant]", max_tokens=6)
        assert said.text != generate("a", max_tokens=6).text
        assert plain.finish_reason in ("stop", "length")
    finally:
        chat.close()


def test_a_loaded_model_keeps_its_engine_when_the_task_is_closed(gpt2: Both) -> None:
    with LocalModel(gpt2.ours) as model:
        made = lmstack.task("generate", model, max_tokens=2)
        made("a")
        made.close()
        assert model.generate("a", max_tokens=2)


def test_a_model_without_a_template_does_not_chat(gpt2: Both) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lmstack.task("chat", gpt2.named(template=None))
    assert caught.value.hint == "it can do feature-extraction, text-generation"


def test_a_language_model_gives_features(gpt2: Both, tmp_path: Path) -> None:
    found = lmstack.task("features", gpt2.ours)("a in")
    ids = gpt2.tokenizer("a in", return_tensors="pt")["input_ids"]
    theirs = gpt2.model.transformer(ids).last_hidden_state[0]
    torch.testing.assert_close(torch.tensor(found.vectors), theirs.detach())


def test_a_message_with_other_keys_is_refused(gpt2: Both, generate: Any) -> None:
    with pytest.raises(InputError, match="has the message"):
        generate([[{"role": "user", "text": "a"}]])


def test_a_task_writes_with_the_weights_that_a_server_holds(gpt2: Both) -> None:
    with LocalModel.load(gpt2.folder) as served:
        task = lmstack.task("generate", gpt2.folder, max_tokens=1)
        assert task.loaded.form == served.loaded.form != "file"
        task.close()
    assert lmstack.task("features", gpt2.folder).loaded.form == "float32"
