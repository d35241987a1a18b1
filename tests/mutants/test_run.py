"""What `make mutants` counts: faults in what the code does, by module, against known ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.mutants import run
from tests.mutants.apart import results_apart
from tests.mutants.faults import (
    Fault,
    faults_of,
    put_into,
    results_of,
    sites_of,
    with_fault,
    without_words,
)

SOURCE = '''"""A module."""

LIMIT = 3


class Gate:
    def opens(self, count: int, key: str) -> bool:
        if count > LIMIT:
            raise ValueError(f"{count} is too many", key)
        return key == LIMIT
'''


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ('hint="free some space",', "hint=None,", True),
        ('raise Error("it is bad")', 'raise Error("XXit is badXX")', True),
        ('f"the log {path!r} is damaged",', 'f"the log {None!r} is damaged",', True),
        ('return f"{a} of {b}"', 'return f"{b} of {a}"', True),
        ('"bring it back, or drop it",', "None,", True),
        ("self.limit,", "None,", False),
        ('raise Error(f"{n} is bad", hint="use a, b")', 'raise Error(f"{n} is bad", )', True),
        ("return cut(text, limit)", "return cut(text, )", False),
        ('return record["hash"]', 'return record["HASH"]', False),
        ('raise Error("it is bad", param="keys")', 'raise Error("it is bad", param=None)', False),
        ('if name == "all of it":', 'if name != "all of it":', False),
    ],
)
def test_words_for_people_are_not_what_is_tested(was: str, now: str, same: bool) -> None:
    assert (without_words([was]) == without_words([now])) is same


def test_faults_are_shown_where_they_are_and_words_left_out(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "gate.py"
    path.write_text(SOURCE)
    found = list(faults_of(path, tmp_path))
    assert {fault.file for fault in found} == {"src/gate.py"}
    shown = {(fault.line, fault.was, fault.now) for fault in found}
    assert (8, ("if count > LIMIT:",), ("if count >= LIMIT:",)) in shown
    assert (10, ("return key == LIMIT",), ("return key != LIMIT",)) in shown
    assert not [fault for fault in found if "TOO MANY" in fault.now[0] or "XX" in fault.now[0]]
    assert all(fault.name.startswith("gate.") for fault in found)


def fault(number: int) -> Fault:
    return Fault(f"m.x_f__mutmut_{number}", "src/m.py", number, (f"a{number}",), (f"b{number}",))


def test_known_faults_do_not_count_and_others_do() -> None:
    sample = [fault(number) for number in range(5)]
    outcomes = ("killed", "timeout", "survived", "survived", "killed")
    results = {each.name: outcome for each, outcome in zip(sample, outcomes, strict=True)}
    row = run.counted(sample, results, {sample[2].key, sample[4].key})
    assert row == Counter(killed=2, timeout=1, survived=1, known=1)
    assert run.share(row) == 3 / 4
    assert "75.0%  below 90%" in run.shown({"engine": row})
    assert run.share(Counter()) == 1


def test_a_known_fault_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text('[[fault]]\nfile = "a.py"\nwas = ["a"]\nnow = ["b"]\nwhy = " "\n')
    with pytest.raises(SystemExit, match="no reason"):
        run.read_known(path)
    path.write_text(path.read_text().replace('" "', '"it is the same"'))
    assert run.read_known(path) == {("a.py", ("a",), ("b",))}


def test_every_known_fault_has_a_reason_and_its_file() -> None:
    assert all((run.ROOT / str(file)).is_file() for file, _, _ in run.read_known(run.KNOWN))


def test_tests_run_as_they_are_written_and_those_of_the_fault_first(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(run.ORDERED.read_text())
    (tmp_path / "test_a.py").write_text("def test_2(): pass\ndef test_1(): pass\n")
    (tmp_path / "test_b.py").write_text("def test_3(): pass\n")
    named = ["test_b.py::test_3", "test_a.py::test_1", "test_a.py::test_2"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *named]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def order(fault: str) -> list[str]:
        at = {**env, "MUTANT_UNDER_TEST": fault}
        done = subprocess.run(
            command, cwd=tmp_path, env=at, capture_output=True, text=True, check=True
        )
        return done.stdout.split()[:3]

    assert order("") == named[::-1]
    assert order("stack.b.x_f__mutmut_1") == [named[0], *named[:0:-1]]


def test_a_file_that_cannot_be_imported_has_failed_and_was_not_interrupted(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(run.ORDERED.read_text())
    (tmp_path / "test_a.py").write_text("import no_such_module\n")
    (tmp_path / "test_b.py").write_text("def test_b(): raise KeyboardInterrupt\n")
    command = [sys.executable, "-m", "pytest", "-x", "-q"]
    place = {"cwd": tmp_path, "env": {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}}
    codes = [
        subprocess.run([*command, name], capture_output=True, check=False, **place).returncode
        for name in ("test_a.py", "test_b.py")
    ]
    assert codes == [1, 2]
    assert "No module named 'no_such_module'" in (tmp_path / "failed.txt").read_text()


def test_a_run_that_was_interrupted_has_no_result(tmp_path: Path) -> None:
    codes = {"killed": 1, "survived": 0, "timeout": -24, "broken": 255, "new": None, "stopped": 2}
    folder = tmp_path / "mutants" / "src"
    folder.mkdir(parents=True)
    (folder / "m.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    expected = {each: each for each in ("killed", "survived", "timeout")} | {"broken": "survived"}
    assert results_of(tmp_path) == expected


GATES = (
    SOURCE.replace("key == LIMIT", "self.least(key) == LIMIT")
    + """
    def least(self, key: str) -> int:
        return len(key) + 1


def twice(count: int) -> int:
    if count < 0:
        raise ValueError("fewer than none")
    return 2 * count
"""
)


def test_faults_of_some_functions_are_those_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "gate.py"
    path.write_text(GATES)
    every = list(faults_of(path, tmp_path))
    chosen = {"xǁGateǁleast", "x_twice"}
    assert {fault.function for fault in every} == {*chosen, "xǁGateǁopens"}
    some = list(faults_of(path, tmp_path, chosen))
    assert some == [fault for fault in every if fault.function in chosen]


def test_sites_are_all_faults_and_those_of_words(tmp_path: Path) -> None:
    path = tmp_path / "gate.py"
    path.write_text(GATES)
    faults = {(fault.function, fault.name) for fault in faults_of(path, tmp_path)}
    sites = set(sites_of(path, tmp_path))
    assert faults < sites
    assert {function for function, _ in sites - faults} == {"x_twice"}


def test_mutmut_takes_the_faults_of_chosen_functions_as_they_were_put(tmp_path: Path) -> None:
    path = tmp_path / "src" / "gate.py"
    path.parent.mkdir()
    path.write_text(GATES)
    place = tmp_path / "copy"
    put_into(place, path, tmp_path, {"x_twice"})
    written = (place / "mutants" / "src" / "gate.py").read_text()
    assert "x_twice__mutmut_1" in written
    assert "least__mutmut" not in written
    assert results_of(place) == {}
    facts = json.loads((place / "mutants" / "src" / "gate.py.meta").read_text())
    assert set(facts["exit_code_by_key"]) == {
        name for function, name in sites_of(path, tmp_path) if function == "x_twice"
    }
    assert list(facts["hash_by_function_name"]) == ["x_twice"]


def test_a_fault_is_written_as_if_somebody_had_made_it(tmp_path: Path) -> None:
    path = tmp_path / "gate.py"
    path.write_text(GATES)
    [fault] = [each for each in faults_of(path, tmp_path) if each.now == ("return 3 * count",)]
    assert with_fault(path, fault) == GATES.replace("2 * count", "3 * count")


def test_code_that_runs_without_mutmut_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gate.py"
    path.write_text(GATES)

    def code_of(place: Path, tests: object, fault: str = "", limit_s: object = None) -> int:
        assert (path.read_text() != GATES) is bool(fault)
        if "count <= 0" in path.read_text():
            raise subprocess.TimeoutExpired("pytest", 1)
        return int("3 * count" in path.read_text())

    monkeypatch.setattr("tests.mutants.apart._code_of", code_of)
    faults = {each.now: each for each in faults_of(path, tmp_path, {"x_twice"})}
    expected = {"return 3 * count": "killed", "if count <= 0:": "timeout"}
    expected["return 2 / count"] = "survived"
    sample = {faults[(now,)]: outcome for now, outcome in expected.items()}
    found = results_apart(tmp_path, list(sample), ["test_gate.py"])
    assert found == {fault.name: outcome for fault, outcome in sample.items()}
    assert path.read_text() == GATES
    monkeypatch.delattr("tests.mutants.apart._code_of")
    assert results_apart(tmp_path, list(sample), ["test_gate.py"]) == found


def test_a_fault_that_breaks_an_import_is_noticed_and_a_test_not_found_is_an_error(
    tmp_path: Path,
) -> None:
    for name in ("src", "mutants"):
        (tmp_path / name).mkdir()
    (tmp_path / "setup.cfg").write_text("[mutmut]\nsource_paths = src\n")
    sound = "import os\nos.environ['SOUND']\n"
    (tmp_path / "mutants" / "a").mkdir()
    (tmp_path / "mutants" / "a" / "conftest.py").write_text(sound)
    (tmp_path / "mutants" / "a" / "test_a.py").write_text("def test_a(): pass\n")
    (tmp_path / "mutants" / "test_b.py").write_text(f"{sound}def test_b(): pass\n")
    (tmp_path / "mutants" / "conftest.py").write_text(run.ORDERED.read_text())
    script = (  # a child for each name, forked after the imports
        "import os, sys; from mutmut.runners.harness import *\n"
        "from tests.mutants import launch\n"
        "for name in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        try:\n"
        "            code = launch.run_tests(PytestRunner(), mutant_name='', tests=[name])\n"
        "            print('code', code, flush=True)\n"
        "        except BaseException as error: print(type(error).__name__, flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()"
    )
    path = {"PYTHONPATH": str(run.ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def said(*names: str, **sound: str) -> str:
        command = [sys.executable, "-c", script, *names]
        env = {**os.environ, **path, **sound}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.stdout + done.stderr

    names = ("a/test_a.py", "a/test_a.py::test_a", "test_b.py", "test_b.py::test_b")
    assert said(*names).count("code 1") == len(names)
    sound = said("test_b.py::test_b", "test_b.py::test_c", SOUND="1")
    assert "code 0" in sound
    assert "BadTestExecutionCommandsException" in sound
