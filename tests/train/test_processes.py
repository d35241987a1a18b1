"""Two processes equal one: FSDP2 and gloo, a few steps each. They are forked, which spares each of
them the loading of torch; in the long suite torchrun itself starts those of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train import runs
from tests.train.forked import Forks

STEPS = {"steps": 4, "save_every": 4, "eval_every": 2, "dropout": 0.0}
# Three rows a step: in the last step of an epoch a process has nothing to do.
KINDS: dict[str, dict[str, Any]] = {
    "causal": {"batch": 3, "pack": False, "ema": 0.9, "data": "few.jsonl"},
    "muon": {"clip": 0.1},
    "sft-lora": {"lora": {"r": 4}},
    "translation": {"checkpointing": True},
    # Their reference is computed by both processes, a share each.
    "dpo-lora": {"lora": {"r": 4}},
    "kto": {"batch": 3},
    "grpo": {"batch": 3, "steps": 2, "save_every": 2},
    "ppo": {"batch": 3, "lora": {"r": 4}},
}


def changes_of(kind: str) -> dict[str, Any]:
    return {**STEPS, **KINDS[kind]}


SCRIPT = Path(__file__).with_name("process_runs.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs.prepare_folder(tmp_path)
    rows = (tmp_path / "text.jsonl").read_text().splitlines()
    (tmp_path / "few.jsonl").write_text("\n".join(rows[:10]))
    return tmp_path


def assert_close(one: Path, two: Path, bound: float) -> None:
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=bound, atol=bound, msg=key)


def assert_close_end(folder: Path, one: str, two: str, bound: float) -> None:
    """The same lines of metrics, and the same weights."""
    first, second = runs.lines(folder, one), runs.lines(folder, two)
    assert [line["step"] for line in first] == [line["step"] for line in second]
    for line, other in zip(first, second, strict=True):
        assert line.keys() == other.keys()
        for key, value in line.items():
            assert other[key] == pytest.approx(value, rel=bound, abs=bound), (key, line)
    ends = [next((folder / f"{name}-made").rglob("*.safetensors")) for name in (one, two)]
    assert_close(*ends, bound)


# Both parts of "sft-lora" are in others: its loss and an adapter that is sharded.
@pytest.mark.parametrize(
    "kinds",
    [KINDS.keys() - {"sft-lora"}, pytest.param({"sft-lora"}, marks=pytest.mark.long)],
    ids=["usual", "more"],
)
def test_two_processes_equal_one(folder: Path, forks: Forks, kinds: Collection[str]) -> None:
    files = []
    for kind in kinds:
        changes = changes_of(kind)
        runs.train(runs.recipe(folder, f"{kind}-1", kind, **changes))
        files.append(str(runs.recipe_file(folder, f"{kind}-2", kind, **changes)))
    status, out, said = forks.start(2, str(SCRIPT), *files).ended()
    assert status == 0, said
    assert out == ""
    for kind in kinds:
        # Muon's iteration is in bfloat16, which a last bit of a gradient can turn over.
        bound = 2e-2 if kind == "muon" else 2e-5
        assert_close_end(folder, f"{kind}-1", f"{kind}-2", bound)
        last = f"step-{changes_of(kind)['steps']:08d}"
        kept = [folder / f"{kind}-{n}" / "checkpoints" / last for n in (1, 2)]
        assert {path.name for path in kept[0].iterdir()} == {p.name for p in kept[1].iterdir()}
        for path in kept[0].glob("*.safetensors"):
            assert_close(path, kept[1] / path.name, bound)


@pytest.mark.parametrize("kind", [pytest.param("causal", marks=pytest.mark.long), "ppo"])
def test_one_process_saves_and_three_go_on(folder: Path, forks: Forks, kind: str) -> None:
    """Of the latter, with answers that were drawn ahead."""
    changes = {**changes_of(kind), "ema": 0.9}
    runs.train(runs.recipe(folder, "whole", kind, **changes))
    parted = runs.recipe(folder, "parted", kind, **{**changes, "save_every": 2})
    with pytest.raises(runs.Killed):
        runs.train(parted, watch=runs.Stop(3))
    file = f"resume:{runs.recipe_file(folder, 'parted', kind, **changes)}"
    status, _, said = forks.start(3, str(SCRIPT), file).ended()
    assert status == 0, said
    assert_close_end(folder, "whole", "parted", 2e-5)
    # From the checkpoint at step 2: a run that begins anew has the same end.
    assert (folder / "parted" / "steps").read_text().split() == ["3", "4"]


class Torchrun:
    """Like `Forked`: torchrun itself, in a process group of its own."""

    def __init__(self, count: int, *words: str) -> None:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        self.process = subprocess.Popen(
            [sys.executable, *launch, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.mark.parametrize("launcher", ["forked", pytest.param("torchrun", marks=pytest.mark.long)])
def test_ctrl_c_saves_once_and_says_once_how_to_go_on(
    folder: Path, forks: Forks, launcher: str
) -> None:
    file = runs.recipe_file(folder, steps=100_000, save_every=100_000, eval_every=100_000)
    start = forks.start if launcher == "forked" else Torchrun
    process = start(2, "-m", "lmstack", "train", str(file))
    metrics = folder / "run" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.is_running(), process.ended()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # to torchrun and to its processes, as a terminal does
    status, _, said = process.ended()
    assert status != 0
    done = runs.lines(folder)[-1]["step"]
    kept = list((folder / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"step-{done:08d}"]
    again = f"torchrun --nproc-per-node 2 -m lmstack train {file} --resume"
    assert said.count(again) == said.count("--resume") == 1, said
    assert "lmstack/train" not in said  # no traceback of ours


def test_an_error_ends_all_and_is_said_once(folder: Path, forks: Forks) -> None:
    errors = {
        # All of them find it, and one of them says it.
        "error: metric is 'acuracy'; the objective has loss, accuracy": {"metric": "acuracy"},
        # The first finds it while the others wait for it.
        "error: there is no data at": {"data": "none.jsonl"},
    }
    files = [
        str(runs.recipe_file(folder, f"wrong-{number}", **changes))
        for number, changes in enumerate(errors.values())
    ]
    status, _, said = forks.start(2, str(SCRIPT.with_name("process_errors.py")), *files).ended()
    assert status != 0
    for message in errors:
        assert said.count(message) == 1, said
    assert "did not fail" not in said
    assert "lmstack/train" not in said
