"""`lmstack doctor`: what it reports, what it never prints, and when it exits 1; and the same of
`lmstack doctor template MODEL`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.byte_tokens import byte_level

from lmstack.app import wiring
from lmstack.app.inspect import checks
from lmstack.app.inspect.checks import Check, machine_checks, store_checks
from lmstack.core import IntegrityError, StoreError, UnsupportedError
from lmstack.engine import memory
from lmstack.registry import Broken

if TYPE_CHECKING:
    from tests.app.conftest import Run


def broken(name: str) -> Broken:
    return Broken(name, Path(name), IntegrityError("model.safetensors is 3 bytes short"))


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_keys_are_named_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    found = machine_checks(tmp_path)
    assert not any("very-secret" in str(check) for check in found)
    detail = by_name(found)["API keys"].detail
    assert "OPENAI_API_KEY yes" in detail
    assert "ANTHROPIC_API_KEY no" in detail


def test_every_subject_of_a_bare_machine_is_reported(tmp_path: Path) -> None:
    names = set(by_name(machine_checks(tmp_path / "not" / "made" / "yet")))
    assert {"Python", "torch", "GPU", "processor", "kernels", "memory", "disk", "API keys"} <= names


def test_an_unwritable_home_stops_work_and_says_how_to_move_it(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    disk = by_name(machine_checks(blocked / "home"))["disk"]
    assert disk.status == "fail"
    assert "LMSTACK_HOME" in (disk.fix or "")


def test_a_missing_default_model_names_the_command_that_brings_it() -> None:
    found = by_name(store_checks(list, list, {"m": "answers questions"}))
    assert found["model m"].status == "fail"
    assert found["model m"].fix == "lmstack pull m"


def test_a_broken_default_model_is_reported_once_with_both_commands() -> None:
    found = store_checks(list, lambda: [broken("m")], {"m": "answers"})
    assert [check.fix for check in found] == ["lmstack model rm m && lmstack pull m"]
    assert found[0].status == "fail"


def test_a_broken_model_that_is_no_default_does_not_stop_work() -> None:
    [check] = store_checks(list, lambda: [broken("other")], {})
    assert (check.status, check.fix) == ("warn", "lmstack model rm other")


def test_an_unreadable_store_is_a_finding_and_not_an_error() -> None:
    def locked() -> list[Broken]:
        raise StoreError("the store is locked")

    [check] = store_checks(locked, list, {})
    assert check.status == "fail"
    assert "locked" in check.detail


def test_exit_code_is_1_only_if_a_problem_stops_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = [Check("memory", "warn", "low", "close other programs")]
    monkeypatch.setattr(wiring, "checks", lambda network: warned)
    assert run("doctor").code == 0
    monkeypatch.setattr(wiring, "checks", lambda network: [*warned, Check("disk", "fail", "full")])
    assert run("doctor").code == 1


def test_each_fix_is_printed_beside_its_subject(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Check("memory", "warn", "low", "close other programs"), Check("disk", "ok", "fine")]
    monkeypatch.setattr(wiring, "checks", lambda network: found)
    assert run("doctor").out.splitlines()[-1].split(maxsplit=1) == [
        "memory",
        "close other programs",
    ]


def test_json_is_printed_whole_even_when_work_is_stopped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "checks", lambda network: [Check("disk", "fail", "full", "rm")])
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert ran.json == {
        "ok": False,
        "checks": [{"name": "disk", "status": "fail", "detail": "full", "fix": "rm"}],
    }


def test_the_network_is_not_touched_without_being_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(checks, "network_checks", lambda: asked.append("now") or [])
    monkeypatch.setattr(wiring, "network_checks", lambda: asked.append("now") or [])
    run("doctor")
    assert asked == []


def test_a_containers_limit_counts_as_all_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"/sys/fs/cgroup/memory.max": 2_000_000, "/sys/fs/cgroup/memory.current": 500_000}
    monkeypatch.setattr(memory, "_number", limits.get)
    monkeypatch.setattr(memory, "_cached", lambda: 0)
    free, total = memory.free_memory()
    assert total == 2_000_000
    assert free is not None
    assert free <= 1_500_000
    # Files that were read a while ago are counted as used, and give way.
    monkeypatch.setattr(memory, "_cached", lambda: 400_000)
    assert memory.free_memory()[0] == free + 400_000


TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    """A folder in the making: a tokenizer and a good template, no weights."""
    made = byte_level("<|im_start|>", "<|im_end|>", "<|pad|>")
    folder = tmp_path / "chat"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_model_without_a_fault_is_all_right(run: Run, chat_folder: Path) -> None:
    ran = run("doctor", "template", str(chat_folder), "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    assert {f["severity"] for f in ran.json["findings"]} == {"ok", "note"}


def test_a_fault_of_the_template_is_shown_with_its_value_and_stops_with_1(
    run: Run, chat_folder: Path
) -> None:
    (chat_folder / "chat_template.jinja").write_text(TEMPLATE.replace("<|im_end|>", "<|pad|>"))
    ran = run("doctor", "template", str(chat_folder))
    assert ran.code == 1
    lines = ran.out.splitlines()
    [at] = [n for n, line in enumerate(lines) if line.startswith("fail   end of turn")]
    # However narrow the terminal is.
    shown = " ".join(line.strip() for line in lines[at:])
    assert "<|im_end|>" in shown.partition("seen: ")[0]
    assert "seen: '<|pad|>" in shown
    assert "mend: add the token that ends a turn to eos_token_id" in shown
    found = run("doctor", "template", str(chat_folder), "--json")
    assert (found.code, found.json["ok"]) == (1, False)


def test_the_template_that_another_program_would_read_is_compared(
    run: Run, chat_folder: Path
) -> None:
    config = json.loads((chat_folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "other"
    (chat_folder / "tokenizer_config.json").write_text(json.dumps(config))
    ran = run("doctor", "template", str(chat_folder))
    assert ran.code == 0
    assert "warn   template" in ran.out


@pytest.mark.parametrize(
    ("typed", "code", "named"),
    [
        (["doctor", "template", "no-such-model"], 1, "no-such-model"),
        (["doctor", "no-such-model"], 2, "has no command 'no-such-model'"),
        (["doctor", "template"], 2, "MODEL"),
    ],
)
def test_what_cannot_be_examined_is_said(run: Run, typed: list[str], code: int, named: str) -> None:
    ran = run(*typed)
    assert (ran.code, named in ran.err) == (code, True)


def test_a_template_that_cannot_be_read_is_an_error_with_a_way_out(
    run: Run, chat_folder: Path
) -> None:
    (chat_folder / "chat_template.jinja").write_text("{% if %}")
    ran = run("doctor", "template", str(chat_folder))
    assert ran.code == 1
    assert ran.err.splitlines()[0].startswith("error: the chat template does not compile")


def test_native_ops_that_were_not_built_are_named_with_the_command_that_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.cpu.library.problem", lambda: "not built: no compiler")
    kernels = by_name(machine_checks(tmp_path))["kernels"]
    assert kernels.status == "warn"
    assert "reference ops" in kernels.detail
    assert "pip install" in (kernels.fix or "")


@pytest.mark.parametrize(("has", "told"), [(True, "native ops"), (False, "torch's ops")])
def test_what_training_runs_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool, told: str
) -> None:
    monkeypatch.setattr("lmstack.engine.cpu.library.problem", lambda: "")
    monkeypatch.setattr("lmstack.train.native.available", lambda: has)
    assert by_name(machine_checks(tmp_path))["kernels"].detail.endswith(f"; to train: {told}")


def test_a_processor_path_that_cannot_be_had_stops_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise UnsupportedError("no native path is called 'x'", hint="use one of avx2, none")

    monkeypatch.setattr("lmstack.engine.cpu.library.problem", refuse)
    kernels = by_name(machine_checks(tmp_path))["kernels"]
    assert (kernels.status, kernels.fix) == ("fail", "use one of avx2, none")
