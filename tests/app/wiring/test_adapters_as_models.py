"""An adapter that writes, wherever a model is named: it is opened beside the base that it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.app.cli.numbers_task import write_numbers
from tests.train.runs import prepare_folder, recipe, train

import lmstack
from lmstack.app import wiring
from lmstack.app.wiring.tasks import load_also, open_task
from lmstack.core import InputError, IntegrityError, UnsupportedError, close_model
from lmstack.model import load_adapter
from lmstack.model.lora.folder import adapter_digest
from lmstack.registry import Store, load
from lmstack.serve import LocalModel
from lmstack.train.merged import merge

if TYPE_CHECKING:
    from tests.app.conftest import Run

IDS = torch.tensor([[3, 7, 1, 9, 30, 12, 40, 5]])
LORA = {"r": 4, "alpha": 64}


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the models ``base``, in the store, and its adapter ``chat``, in the store too."""
    torch.set_num_threads(1)
    prepare_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    train(recipe(tmp_path, "plain", steps=1, output="base"))
    trained(tmp_path, "first", output="chat")
    return tmp_path


def trained(folder: Path, name: str, **changes: Any) -> Path:
    sources = {"base": "base", "model": None, "tokenizer": None}
    given = {"lora": LORA, "steps": 3, "lr": 0.1, "validation": 0, **sources, **changes}
    return train(recipe(folder, name, "sft-lora", **given)).folder


def logits(module: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module.eval()(IDS).logits
    return found


def test_a_name_puts_an_adapter_into_the_store_and_a_path_where_it_says(
    run: Run, folder: Path
) -> None:
    assert Store().adapter("chat") == Store().folder / "chat"
    assert not Path("chat").exists()
    elsewhere = trained(folder, "second", output="./elsewhere")
    assert elsewhere == folder / "elsewhere"
    kinds = {each["name"]: each["kind"] for each in run("model", "list", "--json").json}
    assert kinds == {"base": "generate", "chat": "adapter"}
    assert run("model", "rm", "chat").code == 0
    assert Store().adapter("chat") is None


def test_an_adapter_of_the_store_is_written_again_and_a_model_never(folder: Path) -> None:
    before = (Store().folder / "chat/training.json").read_text()
    trained(folder, "again", output="chat", seed=1)
    assert (Store().folder / "chat/training.json").read_text() != before
    with pytest.raises(InputError, match="base is there already"):
        trained(folder, "third", output="base")


def test_an_adapter_names_its_base_by_its_name_in_the_store_or_by_its_path(folder: Path) -> None:
    def named(adapter: Path) -> str | None:
        found: str | None = json.loads((adapter / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ]
        return found

    assert named(Store().folder / "chat") == "base"
    train(recipe(folder, "outside", steps=1))
    beside = trained(folder, "second", base="./outside-made", output="./beside")
    assert named(beside) == str(folder / "outside-made")
    module = load("base").module
    load_adapter(module, Store().folder / "chat", trainable=True)
    lmstack.model.save_adapter(module, folder / "saved")
    assert named(folder / "saved") == "base"


def test_an_adapter_alone_answers_as_beside_its_base(folder: Path) -> None:
    given = {"max_tokens": 6, "temperature": 0}
    with LocalModel.load("base") as base:
        plain = base.generate("cat 3", **given)
        adapted = base.with_adapter(Store().folder / "chat")
        expected, digest = adapted.generate("cat 3", **given), adapted.info.digest
    assert expected != plain
    for opened in (wiring.generator("chat"), wiring.lazy_generator("chat").load()):
        assert opened.generate("cat 3", **given) == expected
        assert opened.info.digest == digest
        close_model(opened)
    assert wiring.lazy_generator("chat").info.name == "chat"
    with open_task("text-generation", "chat", {}) as task:
        assert task("cat 3", **given).text == expected
    also = load_also(["chat"])
    assert also.writers["chat"].info.digest == digest
    also.close()


def test_python_opens_an_adapter_beside_the_base_that_it_names(folder: Path) -> None:
    with lmstack.load("chat") as model:
        assert model.info.parent == "base"


def test_two_adapters_at_once_and_one_for_a_remote_model_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="chat is an adapter itself"):
        wiring.generator("chat", adapter="chat")
    with pytest.raises(InputError, match="openai:gpt is not on this machine"):
        wiring.generator("openai:gpt", adapter="chat")
    with pytest.raises(InputError, match="chat is an adapter, and a draft is a whole model"):
        wiring.generator("base", draft="chat")
    with pytest.raises(UnsupportedError, match="'chat' is an adapter, and a whole model is needed"):
        load("chat")


def test_a_base_that_is_another_model_by_now_is_refused_unless_it_is_named(folder: Path) -> None:
    Store().remove("base")
    train(recipe(folder, "other", steps=2, output="base"))
    with pytest.raises(IntegrityError, match="was trained beside sha256:"):
        wiring.generator("chat")
    close_model(wiring.generator("base", adapter="chat"))


def test_an_adapter_that_names_no_base_says_how_to_name_one(folder: Path) -> None:
    shutil.copytree(Store().folder / "chat", "nameless")
    config = json.loads(Path("nameless/adapter_config.json").read_text())
    Path("nameless/adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": None})
    )
    close_model(wiring.generator("./nameless"))  # training.json knows
    Path("nameless/training.json").unlink()
    with pytest.raises(InputError, match="does not say which model it adapts") as raised:
        wiring.generator("./nameless")
    assert raised.value.hint == "name its base as well: --model BASE --adapter nameless"


def test_a_base_is_found_by_the_repository_that_peft_names(folder: Path) -> None:
    card = Store().folder / "base/card.json"
    card.write_text(card.read_text().replace('"source": "', '"source": "hf:org/Base@0123#'))
    config = Store().folder / "chat/adapter_config.json"
    shutil.copytree(config.parent, "theirs")
    Path("theirs/training.json").unlink()
    Path("theirs/adapter_config.json").write_text(
        config.read_text().replace(
            '"base_model_name_or_path": "base"', '"base_model_name_or_path": "org/Base"'
        )
    )
    opened = wiring.generator("./theirs")
    assert opened.info.parent == "base"
    close_model(opened)


def test_an_adapter_is_evaluated_compared_and_recorded(run: Run, folder: Path) -> None:
    write_numbers(folder, 12)
    words = ("eval", "run", "task.yaml", "--json")
    base = run(*words, "--model", "base").json[0]
    alone = run(*words, "--model", "chat").json[0]
    beside = run(*words, "--model", "base", "--adapter", "chat").json[0]
    without = run(*words, "--adapter", "chat").json[0]
    assert base["subject"]["digest"] != alone["subject"]["digest"]
    for other in (beside, without):
        assert other["subject"]["digest"] == alone["subject"]["digest"]
        assert other["figures"] == alone["figures"]
    cards = {each["name"]: each["results"] for each in run("model", "list", "--json").json}
    assert [each["task"] for each in cards["base"]] == ["numbers"]
    assert [each["model"] for each in cards["chat"]] == [alone["subject"]["digest"]]
    how = ("eval", "compare", "base", "--task", "task.yaml", "--json")
    one = run(*how, "chat").json[0]
    two = run(*how, "base", "--adapter", "chat").json[0]
    assert one == two
    assert alone["subject"]["digest"] in json.dumps(one)
    wrong = run("eval", "run", "task.yaml", "--adapter", "nothing")
    assert (wrong.code, wrong.err.splitlines()[0]) == (1, "error: there is no adapter 'nothing'")


@pytest.mark.parametrize(
    ("form", "dora"),
    [
        (None, False),
        pytest.param(None, True, marks=pytest.mark.long),
        pytest.param("nf4", False, marks=pytest.mark.long),
        ("nf4", True),
        pytest.param("int8", False, marks=pytest.mark.long),
    ],
)
def test_a_merged_model_computes_what_was_trained(
    folder: Path, form: str | None, dora: bool
) -> None:
    path = trained(folder, "q", weights=form, lora={**LORA, "dora": dora}, output="q")
    base = load("base", weights=form)
    plain = logits(base.module)
    load_adapter(base.module, path)
    expected = logits(base.module)
    found = merge(path, "whole")
    assert (expected - plain).abs().max() > 0.1
    assert found.card.training is not None
    assert found.card.lineage == "base with the adapter q"
    assert found.card.notes == (f"base {base.digest}", f"adapter {adapter_digest(path)}")
    torch.testing.assert_close(logits(load("whole").module), expected, rtol=0, atol=2e-4)


def test_merging_is_a_command_and_the_result_a_model_with_its_lineage(
    run: Run, folder: Path
) -> None:
    done = run("model", "merge", "chat", "--output", "whole")
    assert done.code == 0, done.err
    assert done.out.startswith("whole   ")
    assert "base with the adapter chat\nbase sha256:" in done.out
    made = run("model", "merge", "chat", "--base", "base", "--output", "./outside", "--json").json
    assert (made["kind"], made["path"]) == ("generate", str(folder / "outside"))
    assert made["digest"] == Store().resolve("whole").digest
    assert "sft" in run("model", "inspect", "whole").out
    again = run("model", "merge", "chat", "--output", "whole")
    assert "whole is there already" in again.err
    nothing = run("model", "merge", "base", "--output", "more")
    assert nothing.err.startswith("error: there is no adapter 'base'")


def test_an_adapter_is_promoted_by_its_name_beside_the_base_that_it_names(
    run: Run, folder: Path
) -> None:
    write_numbers(folder, 12)
    Path("gate.yaml").write_text("rules:\n  - {task: numbers, kind: at_least, threshold: 0.001}\n")
    how = ("--to", "prod", "--gate", "gate.yaml", "--task", "task.yaml", "--first", "--dry-run")
    release = run("release", "promote", "chat", *how, "--json").json["release"]
    assert (release["model"], release["adapter"]) == ("base", str(Store().folder / "chat"))
    assert (
        run("release", "promote", "base", "--adapter", "chat", *how, "--json").json["release"]
        == release
    )
    twice = run("release", "promote", "chat", "--adapter", "chat", *how)
    assert "chat is an adapter itself" in twice.err


def test_a_name_that_no_result_can_have_is_refused_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(InputError, match="is not a name for a new model"):
        trained(folder, "third", output="smollm2-135m-instruct")
    assert not (folder / "third").exists()
