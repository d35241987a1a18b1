"""What is said of the processor, from files that Linux might show."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstack.app.inspect import processor as module
from lmstack.app.inspect.checks import machine_checks
from lmstack.app.inspect.processor import Cache, processor

CPUINFO = """\
processor\t: 0
model name\t: Some Chip 9
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni made_up

processor\t: 1
model name\t: Another Chip
flags\t\t: fpu
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores: each with caches of level 1 for data and for code, and one of level 3 shared."""
    for core in ("0", "1"):
        for index, (kind, level, size, cores) in enumerate(
            [
                ("Data", "1", "32K", core),
                ("Instruction", "1", "64K", core),
                ("Unified", "3", "16M", "0-1"),
            ]
        ):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            values = {"type": kind, "level": level, "size": size, "shared_cpu_list": cores}
            for name, value in values.items():
                (folder / name).write_text(value + "\n")
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(module, "CACHES", tmp_path)
    return tmp_path


def test_a_cache_that_cores_share_is_counted_once_and_that_for_code_not_at_all(
    machine: Path,
) -> None:
    found = processor()
    assert found.caches == (Cache(1, 32 << 10, 2), Cache(3, 16 << 20, 1))
    assert found.last_level_cache == 16 << 20


def test_the_first_core_names_the_processor_and_only_known_sets_are_listed(machine: Path) -> None:
    found = processor()
    assert found.instruction_sets == ("sse4_2", "avx2", "avx512f", "avx512_vnni")
    assert str(found) == "Some Chip 9 (avx2, avx512f, avx512_vnni)"


def test_a_system_that_says_nothing_still_has_a_name_and_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(module, "CACHES", tmp_path / "none")
    found = processor()
    assert found.name
    assert found.cores >= 1
    assert (found.instruction_sets, found.caches, found.last_level_cache) == ((), (), 0)


def test_a_damaged_cache_entry_is_left_out(machine: Path) -> None:
    (machine / "cpu0" / "cache" / "index0" / "size").write_text("unknown")
    assert processor().caches == (Cache(1, 32 << 10, 1), Cache(3, 16 << 20, 1))


def test_the_doctor_names_the_processor_and_warns_without_avx2(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    [check] = [c for c in machine_checks(machine) if c.name == "processor"]
    assert (check.status, "Some Chip 9" in check.detail) == ("ok", True)
    (machine / "cpuinfo").write_text(CPUINFO.replace("avx2", "avx"))
    [check] = [c for c in machine_checks(machine) if c.name == "processor"]
    assert check.status == "warn"
