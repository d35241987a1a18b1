"""`lmstack doctor plan` and `lmstack doctor machine`: what they say, keep and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.published import LLAMA_3_8B

from lmstack.app.formats import memory, parse_memory
from lmstack.app.inspect import machine, rates
from lmstack.app.inspect.machine import Machine
from lmstack.app.inspect.processor import Processor, processor
from lmstack.app.inspect.rates import Rates
from lmstack.app.server import deployment
from lmstack.core import InputError
from lmstack.engine import native_problem
from lmstack.model import LayerKind, Transformer, TransformerConfig, write_folder, write_gguf

if TYPE_CHECKING:
    from tests.app.conftest import Run

TINY = TransformerConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=128,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_positions=128,
)


class Measuring:
    """Plays the part of the measurement; counts how often it was made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: Any, **__: Any) -> Rates:
        self.count += 1
        return Rates(10e9, 20e9, {"int8": 800e9, "bfloat16": 400e9, "float32": 100e9})


@pytest.fixture(autouse=True)
def measuring(monkeypatch: pytest.MonkeyPatch) -> Measuring:
    fake = Measuring()
    monkeypatch.setattr(rates, "measure_rates", fake)
    # The same usual form on every machine.
    monkeypatch.setattr("lmstack.serve.forms.multiplies_bfloat16", lambda: True)
    return fake


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A config.json and no weights."""
    folder = tmp_path / "llama-3-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_3_8B))
    return folder / "config.json"


def test_a_bare_config_is_planned_in_words(run: Run, llama: Path) -> None:
    ran = run(
        "doctor", "plan", str(llama), "--users", "2", "--context", "131072", "--memory", "64GiB"
    )
    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == "llama-3-8b: 2 users, 131,072 tokens each, 64 GiB of memory"
    assert "KV cache, bfloat16   128 KiB a token" in lines
    assert "16 GiB for 131,072 tokens" in lines
    assert "fits                 3 such contexts fit; 2 users need 32 GiB" in lines
    assert "note: the model was made for 8,192 tokens at most" in lines


def test_the_same_as_json_has_every_figure(run: Run, llama: Path) -> None:
    found = run(
        "doctor",
        "plan",
        str(llama),
        "--users",
        "2",
        "--context",
        "8192",
        "--memory",
        "64GiB",
        "--json",
    ).json
    assert found["bytes"]["kv_per_token"] == 128 * 1024
    assert (found["weights"], found["kv"], found["matrix"]) == ("bfloat16",) * 3
    assert found["decode"]["bound"] == "memory"
    read = found["decode"]["bytes_read"]
    assert found["decode"]["tokens_per_s"] == pytest.approx(2 * 20e9 / read)
    assert found["machine"]["memory_read_bytes_per_s"]["all_cores"] == 20_000_000_000


def test_a_folder_without_weights_and_its_config_are_planned_alike(run: Run, llama: Path) -> None:
    wanted = ("--users", "1", "--context", "64", "--memory", "64GiB", "--json")
    by_folder = run("doctor", "plan", str(llama.parent), *wanted).json
    assert by_folder == run("doctor", "plan", str(llama), *wanted).json


def test_a_plan_without_users_and_context_is_for_one_user_and_says_so(
    run: Run, llama: Path
) -> None:
    ran = run("doctor", "plan", str(llama), "--memory", "64GiB")
    assert ran.code == 0
    assert ran.out.startswith("llama-3-8b: 1 user, 4,096 tokens each")
    assert "note: planned with --users 1 and --context 4096, the default" in ran.out
    given = run(
        "doctor", "plan", str(llama), "--users", "2", "--context", "64", "--memory", "64GiB"
    )
    assert "the default" not in given.out


def test_a_plan_without_context_stays_within_what_the_model_was_made_for(
    run: Run, llama: Path
) -> None:
    found = json.loads(llama.read_text())
    llama.write_text(json.dumps({**found, "max_position_embeddings": 128}))
    assert run("doctor", "plan", str(llama), "--json").json["context"] == 128


def test_users_that_do_not_fit_are_said_with_what_would(run: Run, llama: Path) -> None:
    ran = run(
        "doctor", "plan", str(llama), "--users", "9", "--context", "8192", "--memory", "20GiB"
    )
    assert ran.code == 0
    assert "4 such contexts fit; 9 users need 9 GiB, which is too much" in ran.out
    [note] = [line for line in ran.out.splitlines() if line.startswith("note: all users fit")]
    assert note == (
        "note: all users fit with 24.3 GiB of memory; in what there is, with a context of 4,224"
        " tokens"
    )


def test_where_not_one_context_fits_no_speed_is_given(run: Run, llama: Path) -> None:
    ran = run("doctor", "plan", str(llama), "--users", "1", "--context", "64", "--memory", "1GiB")
    assert "decode   nothing: not one context fits" in ran.out
    assert "tokens/s" not in ran.out


def test_a_gguf_file_is_planned_as_its_blocks_are(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(Transformer(TINY), path, "q8_0")
    found = run("doctor", "plan", str(path), "--users", "1", "--context", "64", "--json").json
    assert (found["model"], found["weights"]) == ("tiny", "Q8_0 as stored")
    assert found["matrix"] == "int8"
    assert found["bytes"]["weights"] < path.stat().st_size


def test_matrices_of_4_bits_are_held_twice_where_memory_allows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(Transformer(TINY), path, "q4_0")
    monkeypatch.setattr("lmstack.serve.forms.problem", lambda: "")
    monkeypatch.setattr("lmstack.serve.forms.multiplies_lines", lambda: True)
    asked = ("doctor", "plan", str(path), "--users", "1", "--context", "64", "--memory")
    both, once = (run(*asked, memory, "--json").json for memory in ("1GiB", "64KiB"))
    assert (both["weights"], once["weights"]) == ("file8", "file8")
    more = both["bytes"]["weights"] - once["bytes"]["weights"]
    assert more > 0.5 * once["bytes"]["weights"]
    assert "once more, as int8" in " ".join(both["notes"])
    assert "held once" in " ".join(once["notes"])
    monkeypatch.setattr("lmstack.serve.forms.multiplies_lines", lambda: False)
    assert run(*asked, "1GiB", "--json").json["weights"] == "Q4_0 as stored"


def test_a_model_of_the_store_is_found_by_its_name(run: Run, tmp_path: Path) -> None:
    write_folder(Transformer(TINY).to(torch.float32), tmp_path / "mine")
    assert run("pull", str(tmp_path / "mine")).code == 0
    plain = run("doctor", "plan", "mine", "--users", "1", "--context", "64", "--json").json
    stored = run(
        "doctor", "plan", "mine", "--users", "1", "--context", "64", "--weights", "file", "--json"
    ).json
    assert (plain["weights"], stored["weights"]) == ("bfloat16", "float32 as stored")
    assert stored["bytes"]["weights"] == 2 * plain["bytes"]["weights"]
    assert (plain["kv"], stored["kv"]) == ("bfloat16", "float32")


@pytest.mark.parametrize(("form", "matrix"), [("int8", "int8"), ("q4", "int8")])
def test_integer_weights_are_multiplied_as_integers_and_smaller(
    run: Run, llama: Path, form: str, matrix: str
) -> None:
    wanted = (
        "doctor",
        "plan",
        str(llama),
        "--users",
        "1",
        "--context",
        "64",
        "--memory",
        "64GiB",
        "--json",
    )
    plain, other = run(*wanted).json, run(*wanted, "--weights", form).json
    assert (other["weights"], other["matrix"]) == (form, matrix)
    assert other["bytes"]["weights"] < 0.52 * plain["bytes"]["weights"]
    if not native_problem():
        assert 0.5 < other["bytes"]["kv_per_token"] / plain["bytes"]["kv_per_token"] < 0.6
    assert other["decode"]["tokens_per_s"] > 1.9 * plain["decode"]["tokens_per_s"]


def test_keys_and_values_beside_floats_are_as_these(run: Run, llama: Path) -> None:
    wanted = ("doctor", "plan", str(llama), "--users", "1", "--context", "64", "--json")
    found = run(*wanted, "--weights", "float32").json
    assert (found["kv"], found["bytes"]["kv_per_token"]) == ("float32", 256 * 1024)


@pytest.mark.parametrize(("weights", "kv"), [("bfloat16", "int8"), ("float32", "int8")])
def test_what_the_engine_does_not_hold_together_is_refused(
    run: Run, llama: Path, weights: str, kv: str
) -> None:
    ran = run(
        "doctor",
        "plan",
        str(llama),
        *f"--users 1 --context 8 --weights {weights} --kv {kv}".split(),
    )
    assert ran.code == 1
    assert f"not held in {kv} beside weights in {weights}" in ran.err


def test_layers_with_a_window_are_noted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.replace(kinds=(LayerKind(), LayerKind(window=32)), pattern=(0, 1))
    found = deployment.PlannedModel("windowed", config)
    monkeypatch.setattr(deployment, "find_model", lambda reference: found)
    ran = run("doctor", "plan", "windowed", "--users", "1", "--context", "100")
    note = "note: 1 of 2 layers read the last 32 tokens only; all of them are kept"
    assert note in ran.out.splitlines()


def test_memory_is_what_is_free_unless_given(
    run: Run, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "free_memory", lambda: (3_000_000_000, 4_000_000_000))
    found = run("doctor", "plan", str(llama), "--users", "1", "--context", "64", "--json").json
    assert found["memory"] == 3_000_000_000
    monkeypatch.setattr(deployment, "free_memory", lambda: (None, None))
    ran = run("doctor", "plan", str(llama), "--users", "1", "--context", "64")
    assert (ran.code, "--memory 16GiB" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("typed", "code", "named"),
    [
        (["no/such", "--users", "1", "--context", "8"], 1, "no/such does not exist"),
        (["no-such-model", "--users", "1", "--context", "8"], 1, "no-such-model"),
        (["no/such.json", "--users", "1", "--context", "8"], 1, "has no such.json"),
        (["x", "--users", "0", "--context", "8"], 2, "--users"),
        (["x", "--users", "1", "--context", "0"], 2, "--context"),
        (["CONFIG", "--users", "1", "--context", "8", "--memory", "lots"], 1, "'lots'"),
        (["CONFIG", "--users", "1", "--context", "8", "--weights", "file"], 1, "no weights"),
        (["CONFIG", "--users", "1", "--context", "8", "--weights", "int3"], 2, "int3"),
    ],
)
def test_what_cannot_be_planned_is_said_before_anything_is_measured(
    run: Run, llama: Path, measuring: Measuring, typed: list[str], code: int, named: str
) -> None:
    ran = run("doctor", "plan", *[str(llama) if word == "CONFIG" else word for word in typed])
    assert (ran.code, named in ran.err) == (code, True), ran.err
    assert measuring.count == 0


def test_a_file_that_is_no_model_is_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(b"x")
    ran = run("doctor", "plan", str(other), "--users", "1", "--context", "8")
    assert (ran.code, "neither .gguf nor .json" in ran.err) == (1, True)


def test_a_model_that_does_not_generate_is_refused(run: Run, tmp_path: Path) -> None:
    write_folder(Transformer(TINY.replace(head="none")), tmp_path / "bare")
    ran = run("doctor", "plan", str(tmp_path / "bare"), "--users", "1", "--context", "8")
    assert (ran.code, "does not generate" in ran.err) == (1, True)


def test_the_machine_is_measured_once(run: Run, llama: Path, measuring: Measuring) -> None:
    for _ in range(3):
        assert run("doctor", "plan", str(llama), "--users", "1", "--context", "8").code == 0
    assert measuring.count == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values["processor"].update(name="another chip"),
        lambda values: values.update(torch="0.1"),
        lambda values: values.update(format=0),
        lambda values: values.pop("matrix_operations_per_s"),
        lambda values: values["memory_read_bytes_per_s"].update(all_cores="fast"),
        lambda values: values["memory_read_bytes_per_s"].update(all_cores=0),
    ],
)
def test_what_was_kept_of_another_machine_or_damaged_does_not_count(
    run: Run, llama: Path, home: Path, measuring: Measuring, damage: Any
) -> None:
    run("doctor", "machine")
    values = json.loads((home / "machine.json").read_text())
    damage(values)
    (home / "machine.json").write_text(json.dumps(values))
    run("doctor", "plan", str(llama), "--users", "1", "--context", "8")
    assert measuring.count == 2
    assert machine.kept(home) is not None


def test_bench_machine_measures_again_and_keeps_it_for_plans(
    run: Run, home: Path, measuring: Measuring
) -> None:
    first, second = run("doctor", "machine", "--json").json, run("doctor", "machine", "--json").json
    assert measuring.count == 2
    assert first["kept"] == str(home / "machine.json")
    assert second["processor"]["name"] == processor().name
    assert second["matrix_operations_per_s"]["int8"] == 800_000_000_000
    found = machine.kept(home)
    assert found is not None
    assert found.to_json() == {k: v for k, v in second.items() if k != "kept"}


def test_bench_machine_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Processor("Chip 9", "x86_64", 4, frozenset({"avx2"}), ())
    monkeypatch.setattr(machine, "processor", lambda: chip)
    ran = run("doctor", "machine")
    lines = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert lines[0] == ["processor", "Chip 9, x86_64, 4 cores"]
    assert lines[3] == ["memory", "read    10.0 GB/s with 1 core, 20.0 with 4 cores"]
    assert "int8 800, bfloat16 400, float32 100 GFLOP/s" in ran.out


def test_a_home_that_cannot_be_written_stops_neither(
    run: Run, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LMSTACK_HOME", str(blocked / "home"))
    ran = run("doctor", "machine", "--json")
    assert (ran.code, ran.json["kept"]) == (0, None)
    assert "not kept" in ran.err
    assert run("doctor", "plan", str(llama), "--users", "1", "--context", "8").code == 0


def test_the_array_is_larger_than_the_caches_and_leaves_memory_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def measured(cores: int, num_bytes: int, **_: Any) -> Rates:
        asked.append(num_bytes)
        return Rates(1.0, 1.0, {})

    monkeypatch.setattr(rates, "measure_rates", measured)
    chip = Processor("chip", "x86_64", 2, frozenset(), (machine_cache(3, 300 << 20),))
    monkeypatch.setattr(machine, "processor", lambda: chip)
    for free in (64 << 30, 1 << 30, None):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: (free, free))
        assert isinstance(machine.measure(), Machine)
    assert asked == [1200 << 20, 256 << 20, 1200 << 20]


def machine_cache(level: int, size: int) -> Any:
    from lmstack.app.inspect.processor import Cache

    return Cache(level, size, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16GiB", 16 << 30),
        ("16 GB", 16_000_000_000),
        ("1.5gib", 3 << 29),
        ("512MiB", 512 << 20),
        ("2kB", 2000),
        ("17179869184", 17179869184),
        ("1TB", 10**12),
    ],
)
def test_a_size_is_read_as_it_is_written(text: str, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "16G", "GiB", "-1GB", "1e9", "16 XB", "½GB", "١GB", "1GB2"])
def test_a_size_that_could_mean_two_things_or_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no size of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [
        (0, "0 B"),
        (1000, "1000 B"),
        (1024, "1 KiB"),
        (131072, "128 KiB"),
        (23040, "22.5 KiB"),
        ((1 << 30) - 1, "1 GiB"),
        (int(15.5 * 2**30), "15.5 GiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_memory_is_written_in_binary_units(num_bytes: int, expected: str) -> None:
    assert memory(num_bytes) == expected
