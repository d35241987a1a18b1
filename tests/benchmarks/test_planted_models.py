"""Each kind of fault, planted in a real model that adds digits, is caught by the gate.

The model has 1,480 weights and adds all pairs of digits, so that whatever a fault spoils is the
fault's doing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders

from lmstack.core import Message, RemoteError, SamplingParams
from lmstack.evals.gate import (
    GateComparison,
    GateConfig,
    GateDecision,
    GateRule,
    TaskScores,
    decide,
)
from lmstack.evals.metrics import make_scorer
from lmstack.evals.run import run_sync
from lmstack.evals.solvers import Generate
from lmstack.evals.task import Dataset, Sample, Subject, Task
from lmstack.registry import LoadedModel, Store, load
from lmstack.serve import LocalModel

pytestmark = pytest.mark.weights
FOLDER = Path(__file__).parents[2] / "benchmarks"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
AFTER_BOS = "<s>" + TEMPLATE  # of a text that begins with <s> the model never saw the like
RULE = GateRule("sums", margin=0.05)


@dataclass(frozen=True)
class Adder:
    planted: ModuleType
    untouched: LoadedModel
    base: TaskScores


@pytest.fixture(scope="module")
def adder(weights_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adder]:
    try:
        pulled = weights_store.pull("pypi:mathformer==2.0.0#mathformer/addformer").path
    except RemoteError as error:
        pytest.skip(f"mathformer needs the package registry once: {error}")
    folder = tmp_path_factory.mktemp("models") / "adder"
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(pulled / name, folder / name)
    ids = json.loads((pulled / "vocab.json").read_text())
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ids, [], unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    made.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import planted_models

        untouched = load(str(folder), weights="float32")
        yield Adder(planted_models, untouched, scored(untouched, "untouched"))


def task_of(system: str = "") -> Task:
    turns = (Message("system", system),) if system else ()
    samples = tuple(
        Sample(f"{a}+{b}", (*turns, Message("user", f"{a}+{b}=")), (str(a + b),))
        for a in range(10)
        for b in range(10)
    )
    scorer: Any = make_scorer("exact_match")
    solver = Generate(SamplingParams(temperature=0.0, max_tokens=4))
    return Task("sums", Dataset("sums", samples, "arithmetic"), solver, scorer, scorer.metrics)


def scored(loaded: LoadedModel, digest: str, system: str = "") -> TaskScores:
    """A prompt belongs to what is evaluated, so that its task is that of the others."""
    with LocalModel(loaded) as model:
        result = run_sync(task_of(system), Subject(digest, digest, model))
    result.check_complete()
    rows = {sample.id: sample.scores for sample in result.samples}
    task = task_of()
    return TaskScores.of_task(task, task.metrics[0], rows, digest)


def gated(adder: Adder, candidate: TaskScores) -> GateDecision:
    return decide(GateConfig((RULE,)), [GateComparison(candidate, adder.base)])


def test_the_untouched_model_passes_beside_itself(adder: Adder) -> None:
    assert adder.base.value == 1.0
    again = replace(adder.base, digest="again")
    assert gated(adder, again).verdict == "PROMOTE"


PLANTS: dict[str, Callable[[Any, LoadedModel], LoadedModel]] = {
    "noise": lambda planted, model: planted.noisy(model, 0.25),
    "bad quantization": lambda planted, model: planted.coarse_q4(model),
    "swapped tokenizer": lambda planted, model: planted.exchanged(model, "1", "7"),
    "wrong template": lambda planted, model: planted.templated(model, AFTER_BOS),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_rejected(adder: Adder, name: str) -> None:
    found = gated(adder, scored(PLANTS[name](adder.planted, adder.untouched), name))
    assert found.verdict == "REJECT", found.reasons


def test_a_worse_prompt_is_rejected(adder: Adder) -> None:
    found = gated(adder, scored(adder.untouched, "worse prompt", system="1+1=2 "))
    assert found.verdict == "REJECT", found.reasons


def test_a_repaired_model_passes_also_where_it_has_to_be_better(adder: Adder) -> None:
    noisy = scored(adder.planted.noisy(adder.untouched, 0.25), "noise")
    better = GateRule("sums", "superior")
    found = decide(GateConfig((RULE, better)), [GateComparison(adder.base, noisy)])
    assert found.verdict == "PROMOTE", found.reasons


def test_the_untouched_model_is_left_as_it_was(adder: Adder) -> None:
    before = {name: value.clone() for name, value in adder.untouched.module.named_parameters()}
    adder.planted.noisy(adder.untouched, 0.25)
    adder.planted.coarse_q4(adder.untouched)
    after = dict(adder.untouched.module.named_parameters())
    assert all((value == after[name]).all() for name, value in before.items())
