"""`lmstack eval run` on long texts, through a chat template, perturbed, and a suite."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from tests.byte_tokens import byte_level
from tests.evals.benchmarks.invented import INVENTED, lines
from tests.serve.tiny_models import tiny_decoder

from lmstack.app import wiring
from lmstack.engine import EngineConfig
from lmstack.evals import task_data
from lmstack.evals.benchmarks import PACKAGES
from lmstack.evals.metrics.windows import Windows
from lmstack.serve.local import LocalModel
from lmstack.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from tests.app.conftest import Run

EOS = "</s>"
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
TEXT = "A man walks into a bar. He says that she is late.\n" * 8
CHOICES = {
    "name": "numbers",
    "data": "numbers.jsonl",
    "input": "Take {{n}}.\nAnswer:",
    "choices": "endings",
    "gold": "right",
    "shots": {"data": "numbers.jsonl", "count": 1},
    "solver": "multiple_choice",
    "scorer": "multiple_choice",
}
# In the form of the files of crfm-helm, which are read and not run.
LISTS = {
    "helm_contractions": 'CONTRACTION_MAP = {"she\'s": "she is"}',
    "helm_misspellings": json.dumps({"answer": ["anwser"], "what": ["waht"]}),
    "helm_gender": 'GENDER_PRONOUN_MAPPINGS = [("they", "she", "he")]',
    "helm_typos": 'def perturb(self):\n    key_approx = {}\n    key_approx["a"] = "s"\n',
    "helm_bias": 'FEMALE_WORDS: list = ["she"]\nMALE_WORDS = ["he", "man"]\nASIAN_NAMES = ["li"]\n'
    'HISPANIC_NAMES = ["cruz"]\nWHITE_NAMES = ["scott"]\nADJECTIVE_LIST = ["shy"]\n'
    'PROFESSION_LIST = ["nurse"]',
}


def model_of(template: ChatTemplate | None) -> LocalModel:
    tokenizer = Tokenizer.from_json(byte_level(EOS).to_str(), {"eos_token": EOS})
    loaded = tiny_decoder(tokenizer, template=template, positions=2048)
    return LocalModel(loaded, EngineConfig.from_mapping({"num_blocks": 600}))


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    torch.set_num_threads(1)
    with model_of(ChatTemplate(TEMPLATE)) as made:
        yield made


@pytest.fixture
def folder(model: LocalModel, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(wiring, "generator", lambda *_a, **_k: Unclosed(model))
    rows = [{"n": n, "endings": ["one", "two"], "right": n % 2} for n in range(6)]
    (tmp_path / "numbers.jsonl").write_bytes(lines(rows))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(CHOICES))
    (tmp_path / "bar.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def Unclosed(model: LocalModel) -> LocalModel:  # noqa: N802
    """``model``, which outlives the command."""
    model.close = lambda: None  # type: ignore[method-assign]
    return model


def put(key: str, content: bytes) -> None:
    """In place of what `eval fetch` gets."""
    path = task_data._path(PACKAGES[key])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def figures(ran: Any) -> dict[str, float]:
    assert ran.code == 0, ran.err
    return {name: each["value"] for name, each in ran.json[0]["figures"].items()}


# -- perplexity of long texts ---------------------------------------------------------------------


def test_the_perplexity_of_a_text_file_takes_ten_lines(
    run: Run, folder: Path, model: LocalModel
) -> None:
    settings = {"name": "bar", "data": "bar.txt", "solver": "likelihood", "scorer": "perplexity"}
    windows = {"kind": "strided", "max_length": 64, "stride": 32}
    (folder / "bar.yaml").write_text(yaml.safe_dump({**settings, "windows": windows}))
    assert len((folder / "bar.yaml").read_text().splitlines()) <= 10
    found = figures(run("eval", "run", "bar.yaml", "--json"))
    cut = Windows.from_mapping(windows).of
    scored = asyncio.run(model.text_likelihoods(TEXT, cut, add_special_tokens=True))
    total = -sum(each.logprob for each in scored)
    assert len(scored) > 8
    assert found["token_perplexity"] == pytest.approx(math.exp(total / (len(TEXT) - 1)))
    assert found["bits_per_byte"] == pytest.approx(total / len(TEXT) / math.log(2))
    # In parts, other windows, and one after the other: nothing of before is taken for it.
    parts = {**settings, "windows": windows, "separator": "late.\n"}
    (folder / "bar.yaml").write_text(yaml.safe_dump(parts))
    parted = run("eval", "run", "bar.yaml", "--json")
    assert parted.json[0]["dataset"]["samples"] == 8
    assert figures(parted)["bits_per_byte"] != found["bits_per_byte"]


def test_a_benchmark_of_its_own_takes_any_text(run: Run, folder: Path) -> None:
    done = run("eval", "run", "perplexity", "--file", "test=bar.txt")
    assert done.code == 0, done.err
    assert {"token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"} <= {
        line.split()[0] for line in done.out.splitlines()
    }
    assert "--file test=PATH" in run("eval", "run", "perplexity").err


# -- through a chat template ----------------------------------------------------------------------


def test_a_chat_is_another_protocol_and_asked_anew(
    run: Run, folder: Path, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[str] = []
    score = model.likelihoods

    async def seen(pairs: Any, **options: Any) -> Any:
        contexts.append(pairs[0][0])
        return await score(pairs, **options)

    monkeypatch.setattr(model, "likelihoods", seen)
    forms = ((), ("--chat",), ("--chat", "--fewshot-as-multiturn"))
    protocols = []
    for form in forms:
        done = run("eval", "run", "task.yaml", "--limit", "1", "--json", *form)
        assert done.code == 0, done.err
        protocols.append(json.dumps(done.json[0]["protocol"]))
    assert contexts == [
        "Take 1.\nAnswer: two\n\nTake 0.\nAnswer:",
        "[user]Take 1.\nAnswer: two\n\nTake 0.\nAnswer:[assistant]",
        "[user]Take 1.\nAnswer:[assistant]two[user]Take 0.\nAnswer:[assistant]",
    ]
    assert len(set(protocols)) == 3
    for form in forms:
        run("eval", "run", "task.yaml", "--limit", "1", "--json", *form)
    assert len(contexts) == 3


def test_a_model_without_a_template_is_told_at_once(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_of(None) as plain:
        monkeypatch.setattr(wiring, "generator", lambda *_a, **_k: plain)
        done = run("eval", "run", "task.yaml", "--chat")
    assert done.code == 1
    assert "tiny has no chat template" in done.err
    assert "leave --chat out" in done.err


def test_what_no_chat_changes_is_refused(run: Run, folder: Path) -> None:
    assert "add --chat" in run("eval", "run", "task.yaml", "--fewshot-as-multiturn").err
    done = run("eval", "run", "perplexity", "--file", "test=bar.txt", "--chat")
    assert "perplexity has one way to send its prompts" in done.err


# -- perturbed ------------------------------------------------------------------------------------


def test_a_perturbation_has_the_plain_and_the_worse_figure(run: Run, folder: Path) -> None:
    put("helm_typos", LISTS["helm_typos"].encode())
    words = ("eval", "run", "task.yaml", "--perturb", "lowercase", "--perturb", "typos", "--json")
    found = run(*words).json
    plain = run("eval", "run", "task.yaml", "--json").json[0]["figures"]["acc"]["value"]
    assert [each["task"] for each in found] == ["numbers_lowercase", "numbers_typos_0.1"]
    for each in found:
        values = {name: figure["value"] for name, figure in each["figures"].items()}
        assert values["before_acc"] == plain
        assert values["acc"] <= plain
        assert each["protocol"]["solver"]["perturbations"][0]["name"] in each["task"]


def test_a_perturbation_that_is_not_there_says_how_to_get_it(run: Run, folder: Path) -> None:
    words = ("eval", "run", "task.yaml", "--perturb")
    assert "lmstack eval fetch mild_mix" in run(*words, "mild_mix").err
    assert "did you mean typos?" in run(*words, "typo").err
    assert "--file dialect=PATH" in run(*words, "dialect").err
    (folder / "words.json").write_text(json.dumps({"take": ["tek"]}))
    done = run(*words, "dialect", "--file", "dialect=words.json", "--json")
    assert done.json[0]["task"] == "numbers_dialect"


# -- a suite --------------------------------------------------------------------------------------


def test_a_suite_is_one_table(run: Run, folder: Path) -> None:
    assert "lmstack eval fetch helm" in run("eval", "run", "helm").err
    assert "perturbs its questions itself" in run("eval", "run", "helm", "--perturb", "spaces").err
    for key, text in LISTS.items():
        put(key, text.encode())
    for name in ("boolq", "hellaswag", "mmlu", "gsm8k"):
        put(name, lines(INVENTED[name]))
    put("truthfulqa_mc1", lines(INVENTED["truthfulqa"]))
    done = run("eval", "run", "helm", "--limit", "1", "-o", "results")
    assert done.code == 0, done.err
    table = done.out.splitlines()
    assert table[1].split("  ")[1].strip() == "SCENARIO"
    rows = {line.split()[0] for line in table[2:]}
    assert rows == {"boolq", "hellaswag", "mmlu", "truthfulqa_mc1", "gsm8k"}
    assert "not measured" in done.out
    result = json.loads((folder / "results" / "helm_boolq.json").read_text())
    values = {name: each["value"] for name, each in result["figures"].items()}
    assert values["robustness"] <= values["acc"]
    assert values["fairness"] <= values["acc"]
    assert {"ece", "median_seconds", "completion_tokens"} <= set(values)
    # Killed or not, a second run asks nothing again.
    again = run("eval", "run", "helm", "--limit", "1", "--json")
    boolq = next(each for each in again.json if each["task"] == "helm_boolq")
    assert boolq["figures"]["acc"]["value"] == values["acc"]
