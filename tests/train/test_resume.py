"""A run that is stopped and goes on is the run that was never stopped."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from tests.errors import about
from tests.train import runs, tiny
from tests.train.forked import Forked, Forks

from lmstack.core import FormatError, InputError, StoreError
from lmstack.train import checkpoint
from lmstack.train.loop import Interrupted, Watch
from lmstack.train.resume import FIXED, changes

# Enough for four checkpoints and two validations. Runs of "causal" have more, as tests of signals
# have to reach a process before it ends; "ema" counts epochs.
SHORT = {kind: {"steps": 12} for kind in runs.KINDS if kind not in ("causal", "ema")}


# Online runs are stopped in `rollouts/test_online.py` and `rollouts/test_ppo_runs.py` too; of
# preferences and of adapters one kind each is enough.
MORE = ("grpo", "ppo", "kto", "sft-lora")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an uninterrupted run of the first kind, by its name; `uninterrupted` makes others."""
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("runs")
    before, os.environ["LMSTACK_HOME"] = os.environ.get("LMSTACK_HOME"), str(found / "home")
    runs.prepare_folder(found)
    uninterrupted(found, "causal")
    if before is None:
        del os.environ["LMSTACK_HOME"]
    else:
        os.environ["LMSTACK_HOME"] = before
    return found


def uninterrupted(folder: Path, kind: str) -> None:
    if not (folder / kind).exists():
        runs.train(runs.recipe(folder, kind, kind, **SHORT.get(kind, {})))


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(folder / "home"))


@pytest.fixture
def name(request: pytest.FixtureRequest, folder: Path) -> str:
    """Of a run of this test alone."""
    return request.node.name.replace("[", "-").replace("]", "")


def stopped(folder: Path, name: str, at: int, kind: str = "causal", **changes: object) -> None:
    with pytest.raises(runs.Killed):
        runs.train(runs.recipe(folder, name, kind, **changes), watch=runs.Stop(at))


@pytest.fixture
def stopped_at_8(folder: Path, name: str) -> None:
    """A run of this test that was stopped after step 8; all of them are copies of one."""
    if not (folder / "at-8").exists():
        stopped(folder, "at-8", 8)
    shutil.copytree(folder / "at-8", folder / name)


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        pytest.param(kind, seed, marks=pytest.mark.long if seed or kind in MORE else ())
        for kind in runs.KINDS
        for seed in range(3)
    ],
)
def test_resumed_equals_uninterrupted(folder: Path, name: str, kind: str, seed: int) -> None:
    """Stopped twice, at random steps, before and after a checkpoint."""
    uninterrupted(folder, kind)
    drawn, changes = random.Random(f"{kind}{seed}"), SHORT.get(kind, {})
    last = changes.get("steps", 20) - 1
    first = drawn.randint(1, last - 5)
    stopped(folder, name, first, kind, **changes)
    with pytest.raises(runs.Killed):
        runs.train(
            runs.recipe(folder, name, kind, **changes),
            resume=True,
            watch=runs.Stop(drawn.randint(first + 1, last)),
        )
    runs.train(runs.recipe(folder, name, kind, **changes), resume=True)
    runs.assert_same_end(folder, kind, name)


def started(forks: Forks, folder: Path, name: str, after: int) -> Forked:
    """A process that has gone ``after`` steps of a run and goes on."""
    process = forks.start(0, "-m", "lmstack", "train", str(runs.recipe_file(folder, name)))
    metrics = folder / name / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < after:
        assert process.is_running(), process.ended()
        time.sleep(0.001)
    return process


def test_a_killed_process_loses_nothing(forks: Forks, folder: Path, name: str) -> None:
    process = started(forks, folder, name, random.Random().randint(1, 15))
    os.kill(process.pid, signal.SIGKILL)
    process.ended()
    assert not (folder / f"{name}-made").exists()
    runs.train(runs.recipe(folder, name), resume=True)
    runs.assert_same_end(folder, "causal", name)


def test_a_process_that_is_told_to_stop_saves_and_says_how_to_go_on(
    forks: Forks, folder: Path, name: str
) -> None:
    process = started(forks, folder, name, 4)
    os.kill(process.pid, signal.SIGTERM)
    status, _, said = process.ended()
    assert status == 130
    assert "--resume" in said
    assert "Traceback" not in said
    done = runs.lines(folder, name)[-1]["step"]
    assert (folder / name / "checkpoints" / f"step-{done:08d}" / "state.json").exists()
    runs.train(runs.recipe(folder, name), resume=True)
    runs.assert_same_end(folder, "causal", name)


def test_the_first_signal_ends_the_step_and_the_second_the_run(folder: Path, name: str) -> None:
    class Signals(Watch):
        def step(self, done, total, values):
            if done >= 4:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        runs.train(runs.recipe(folder, name), watch=Signals())
    kept = checkpoint.Checkpoints(folder / name, 2).steps()
    assert kept == [3, 4]

    class Twice(Watch):
        def step(self, done, total, values):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as error:
        runs.train(runs.recipe(folder, name), resume=True, watch=Twice())
    assert not isinstance(error.value, Interrupted)
    assert checkpoint.Checkpoints(folder / name, 2).steps() == kept
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


DAMAGE = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"),
    "missing": lambda path: path.unlink(),
    "unreadable": lambda path: path.write_bytes(b"\xff" * 40),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(
    folder: Path, name: str, stopped_at_8: None, damage: str, file: str
) -> None:
    if (damage, file) == ("flipped", "state.json"):
        pytest.skip("its last byte is a brace, which the next test does without")
    path = folder / name / "checkpoints"
    DAMAGE[damage](path / "step-00000006" / file)
    watch = runs.Stop(10)
    with pytest.raises(runs.Killed):
        runs.train(runs.recipe(folder, name), resume=True, watch=watch)
    assert len(watch.notes) == 1
    assert "step-00000006 is passed over: " in watch.notes[0]
    again = runs.lines(folder, name)
    assert max(line["step"] for line in again) == 10
    assert again == runs.lines(folder, "causal")[: len(again)]


def test_without_a_whole_checkpoint_it_says_so(folder: Path, name: str, stopped_at_8: None) -> None:
    for path in (folder / name / "checkpoints").rglob("state.json"):
        path.write_text("{}")
    with pytest.raises(FormatError, match=r"no checkpoint in .* is whole"):
        runs.train(runs.recipe(folder, name), resume=True)


def test_a_checkpoint_whose_best_is_damaged_is_passed_over(tmp_path: Path) -> None:
    found = checkpoint.Checkpoints(tmp_path, 5)
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3)):
        state = {"best_step": best}
        found.save(step, [("weights", {"w": torch.full((3,), float(step))})], state)
    (found.path(3) / "weights.safetensors").write_bytes(b"")
    notes: list[str] = []
    assert found.newest(notes.append) == 2
    assert "its best step 3" in notes[0]
    assert found.steps() == [1, 2]


def test_what_killed_processes_left_behind_goes(tmp_path: Path) -> None:
    found = checkpoint.Checkpoints(tmp_path, 2)
    left = tmp_path / "checkpoints" / ".step-00000001.part"
    left.mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-by-step notes").mkdir()
    found.save(2, [], {})
    assert not left.exists()
    assert found.steps() == [2]


class Full(Watch):
    """No space is left on the disk from the checkpoint at step 6 on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def step(self, done, total, values):
        if done == 6:
            self.monkeypatch.setattr(checkpoint, "save_file", self.save)

    @staticmethod
    def save(_tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_last_good_checkpoint(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left") as error:
        runs.train(runs.recipe(folder, name), watch=Full(patch))
    assert "step-00000006" in error.value.message
    assert "free some space" in str(error.value.hint)
    left = sorted(path.name for path in (folder / name / "checkpoints").iterdir())
    assert left == ["step-00000003", "step-00000005"]
    runs.train(runs.recipe(folder, name), resume=True)
    runs.assert_same_end(folder, "causal", name)


def test_what_safetensors_says_of_the_disk_is_understood(tmp_path: Path) -> None:
    """It writes by itself, and has an error of its own."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            checkpoint._write(tmp_path / "weights.safetensors", {"w": torch.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG


def test_nan_stops_before_the_weights_change(folder: Path, name: str) -> None:
    class Poison(Watch):
        def step(self, done, total, values):
            if done == 7:
                weight = trainer.trained.weights["final_norm.weight"]
                weight.data[0] = float("nan")
                poisoned.update(tiny.weights(trainer.trained.module))

    poisoned: dict[str, torch.Tensor] = {}
    module = tiny.model("llama", dtype=torch.float32)
    trainer = tiny.trainer(module, folder / name, tiny.examples(40), steps=20, save_every=3)
    trainer.watch = Poison()
    with pytest.raises(InputError, match="step 8 gave a loss of nan", check=about("lr")) as error:
        trainer.run()
    assert "--resume goes on from the checkpoint at step 6" in str(error.value.hint)
    for key, weight in tiny.weights(module).items():
        assert torch.equal(weight.nan_to_num(7), poisoned[key].nan_to_num(7))
    again = tiny.trainer(module, folder / name, tiny.examples(40), steps=20, save_every=3)
    assert again.resume() == 6
    assert all(weight.isfinite().all() for weight in tiny.weights(module).values())
    again.run()
    straight = tiny.model("llama", dtype=torch.float32)
    tiny.trainer(straight, folder / f"{name}-2", tiny.examples(40), steps=20).run()
    for key, weight in tiny.weights(module).items():
        assert torch.equal(weight, straight.get_parameter(key))


@pytest.mark.parametrize(
    ("key", "value"), [("batch", 8), ("seed", 1), ("ema", 0.5), ("optimizer", "muon")]
)
def test_what_the_checkpoint_follows_from_may_not_change(
    folder: Path, name: str, key: str, value: object
) -> None:
    shutil.copytree(folder / "causal", folder / name)
    with pytest.raises(InputError, match=f"^{key} is .*, and the run was started with") as error:
        runs.train(runs.recipe(folder, name, **{key: value}), resume=True)
    assert error.value.param == key


def test_other_data_is_not_the_same_run(folder: Path, name: str) -> None:
    shutil.copytree(folder / "causal", folder / name)
    (folder / "other.jsonl").write_text('{"text": "another text"}\n' * 9)
    with pytest.raises(
        InputError, match="was not among the data when the run began", check=about("data")
    ):
        runs.train(runs.recipe(folder, name, data="other.jsonl"), resume=True)


def test_what_steers_the_steps_to_come_may_change_and_is_said(
    folder: Path, name: str, stopped_at_8: None
) -> None:
    shutil.copy(folder / "text.jsonl", folder / "moved.jsonl")
    watch = runs.Stop(0)
    changed = {"lr": 0.002, "steps": 24, "keep": 5, "data": "moved.jsonl"}
    result = runs.train(runs.recipe(folder, name, **changed), resume=True, watch=watch)
    assert result.steps == 24
    assert sorted(watch.notes) == [
        "keep is 5 from here on; it was 2",
        "lr is 0.002 from here on; it was 0.01",
        "steps is 24 from here on; it was 20",
    ]
    assert json.loads((folder / name / "recipe.json").read_text())["lr"] == 0.002


def test_resume_without_a_checkpoint_begins(folder: Path, name: str) -> None:
    stopped(folder, name, 2)
    runs.train(runs.recipe(folder, name), resume=True)
    runs.assert_same_end(folder, "causal", name)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_so_is_the_name(
    tmp_path: Path, disk_calls: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def renamed(source: Path, target: Path) -> None:
        disk_calls.append(("rename", Path(target).name, 0))
        rename(source, target)

    monkeypatch.setattr(os, "rename", renamed)
    parts = [(name, {"w": torch.ones(3)}) for name in ("weights", "optimizer")]
    checkpoint.Checkpoints(tmp_path, 1).save(1, parts, {})
    assert [call[:2] for call in disk_calls] == [
        ("sync", "weights.safetensors"),
        ("sync", "optimizer.safetensors"),
        ("sync", "state.json"),
        ("rename", "step-00000001"),
        ("sync", "checkpoints"),
    ]
    assert all(size for call, name, size in disk_calls if call == "sync" and "." in name)


@pytest.mark.parametrize("key", FIXED)
def test_whatever_the_state_follows_from_stays(key: str) -> None:
    """``pack`` and the others, each by itself; where things are may change."""
    before = dict.fromkeys((*FIXED, "lr", "data", "output"), 1)
    with pytest.raises(InputError, match=f"^{key} is 2, and the run was started with 1") as error:
        list(changes(before, {**before, key: 2}))
    assert error.value.param == key
    moved = {**before, "data": 2, "output": 2, "lr": 2}
    assert list(changes(before, moved)) == ["lr is 2 from here on; it was 1"]


def test_what_a_run_follows_from_is_all_there() -> None:
    """Two lists, so that none goes from the code unseen; docs/training-runs.md has them too."""
    text = (Path(__file__).parents[2] / "docs" / "training-runs.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| `objective`, `model`"))
    assert set(re.findall(r"`(\w+)`", row.split("|")[1])) == set(FIXED)
