"""The audit log: one chain whatever happens, and a verifier that sees every change."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.core import InputError, NotFoundError, StoreError
from lmstack.safety import AuditLog, verify
from lmstack.safety.audit import head_path
from lmstack.safety.chain import GENESIS, KEY_VARIABLE, canonical

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def filled(path: Path, count: int = 8, key: bytes | None = None) -> list[bytes]:
    log = AuditLog(path, fsync=False, key=key)
    for i in range(count):
        log.append({"event": "finished", "request": f"r{i}", "model": {"digest": "sha256:ab"}})
    return path.read_bytes().splitlines(keepends=True)


def test_a_fresh_log_verifies_and_its_head_is_the_hash_of_the_last_append(path: Path) -> None:
    log = AuditLog(path)
    last = [log.append({"event": "x", "i": i}) for i in range(3)][-1]
    report = verify(path)
    assert (report.ok, report.records, report.head, report.bad_line) == (True, 4, last, None)


def test_records_keep_what_was_appended(path: Path) -> None:
    AuditLog(path).append({"event": "accepted", "text": "naïve \ud800 \x00", "n": [1, 2.5, None]})
    record = json.loads(path.read_text().splitlines()[-1])
    assert record["text"] == "naïve \ud800 \x00"
    assert record["n"] == [1, 2.5, None]


def test_log_and_head_are_readable_by_their_owner_alone(path: Path) -> None:
    filled(path, 1)
    assert {p.stat().st_mode & 0o777 for p in (path, head_path(path))} == {0o600}


@pytest.mark.parametrize("bad", [{"seq": 1}, {"hash": "0"}, {"x": float("nan")}, {"x": {1, 2}}])
def test_a_record_that_would_break_the_chain_is_refused_before_it_is_written(
    path: Path, bad: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        AuditLog(path).append(bad)
    assert not path.exists()


# Tampering. Each change is made to the log alone, then the verifier must name the line.


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_flipped_bit_is_found_at_its_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "audit.jsonl"
    lines = filled(path, 3)
    content = bytearray(b"".join(lines))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    report = verify(path)
    line = content[:at].count(b"\n") + 1
    assert not report.ok
    if at < len(content) - 1:  # without its last newline the log is cut short instead
        assert report.bad_line in (line, line + 1)


@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_deleted_line_is_found(path: Path, at: int) -> None:
    lines = filled(path)
    path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    report = verify(path)
    assert not report.ok
    assert report.bad_line == (at + 1 if at < 8 else None)


def test_a_repeated_line_is_found(path: Path) -> None:
    lines = filled(path)
    path.write_bytes(b"".join([*lines[:4], lines[3], *lines[4:]]))
    assert verify(path).bad_line == 5


def test_an_inserted_line_with_a_right_hash_of_its_own_is_found(path: Path) -> None:
    lines = filled(path)
    other = filled(path.with_name("other.jsonl"))
    path.write_bytes(b"".join([*lines[:4], other[4], *lines[4:]]))
    assert verify(path).bad_line == 5


def test_two_swapped_lines_are_found(path: Path) -> None:
    lines = filled(path)
    lines[4], lines[5] = lines[5], lines[4]
    path.write_bytes(b"".join(lines))
    assert verify(path).bad_line == 5


def test_white_space_that_json_does_not_see_is_found(path: Path) -> None:
    lines = filled(path)
    lines[2] = lines[2].replace(b'","', b'", "', 1)
    path.write_bytes(b"".join(lines))
    assert verify(path).bad_line == 3


def test_a_repeated_key_that_json_forgets_is_found(path: Path) -> None:
    lines = filled(path)
    lines[2] = b'{"event":"forged",' + lines[2][1:]
    path.write_bytes(b"".join(lines))
    assert verify(path).bad_line == 3


@pytest.mark.parametrize("keep", range(9))
def test_a_log_cut_short_is_found_by_its_head(path: Path, keep: int) -> None:
    path.write_bytes(b"".join(filled(path)[:keep]))
    report = verify(path)
    assert not report.ok
    assert "cut short" in report.reason


def test_a_log_cut_in_the_middle_of_its_last_line_is_not_taken_for_a_crash(path: Path) -> None:
    lines = filled(path)
    path.write_bytes(b"".join(lines)[:-10])
    assert "cut short" in verify(path).reason


def test_a_missing_head_is_not_ok_unless_a_head_was_pinned(path: Path) -> None:
    filled(path)
    pinned = verify(path).head
    head_path(path).unlink()
    assert "head file is missing" in verify(path).reason
    assert verify(path, expect_head=pinned).ok


def test_log_and_head_cut_together_are_found_by_a_pinned_head(path: Path) -> None:
    filled(path, 3)
    older = path.read_bytes(), head_path(path).read_bytes()
    filled(path, 3)
    pinned = verify(path).head
    path.write_bytes(older[0])
    head_path(path).write_bytes(older[1])
    assert verify(path).ok, "by itself an older copy of both files is a right log"
    assert "expected head" in verify(path, expect_head=pinned).reason


def test_a_pinned_head_still_holds_after_the_log_grew(path: Path) -> None:
    filled(path, 3)
    pinned = verify(path).head
    filled(path, 3)
    assert verify(path, expect_head=pinned).ok


def test_a_head_that_names_another_hash_is_found(path: Path) -> None:
    filled(path)
    head = json.loads(head_path(path).read_bytes())
    head["hash"] = GENESIS
    head_path(path).write_text(json.dumps(head))
    assert "names another record" in verify(path).reason


@pytest.mark.parametrize("head", ["", "[]", '{"seq":"1","hash":"","size":1}', "{"])
def test_a_head_that_is_no_head_is_a_report_not_a_traceback(path: Path, head: str) -> None:
    filled(path)
    head_path(path).write_text(head)
    assert "not a head file" in verify(path).reason


def test_a_missing_log_says_so(path: Path) -> None:
    with pytest.raises(NotFoundError, match="no audit log"):
        verify(path)


@pytest.mark.parametrize("pin", ["", "abc", "G" * 64, "0" * 63 + "\n"])
def test_a_pin_that_is_no_hash_is_an_input_error(path: Path, pin: str) -> None:
    filled(path, 1)
    with pytest.raises(InputError, match="expected head"):
        verify(path, expect_head=pin)


# Keys.


def rebuilt(lines: list[bytes], path: Path) -> None:
    """What an attacker with write access to both files does: change a record, chain anew."""
    forged = AuditLog(path, fsync=False)
    for line in lines[1:]:
        record = json.loads(line)
        content = {k: v for k, v in record.items() if k in ("event", "request", "model")}
        forged.append({**content, "request": "forged"})


def test_without_a_key_a_log_rebuilt_with_its_head_passes_and_a_pin_finds_it(path: Path) -> None:
    lines = filled(path)
    pinned = verify(path).head
    path.unlink()
    head_path(path).unlink()
    rebuilt(lines, path)
    assert verify(path).ok
    assert not verify(path, expect_head=pinned).ok


def test_with_a_key_a_log_rebuilt_without_it_is_found_at_its_first_line(path: Path) -> None:
    lines = filled(path, key=KEY)
    path.unlink()
    head_path(path).unlink()
    rebuilt(lines, path)
    report = verify(path, key=KEY)
    assert not report.ok
    assert report.bad_line == 1


def test_with_a_key_a_head_moved_back_without_it_is_found(path: Path) -> None:
    lines = filled(path, key=KEY)
    kept = b"".join(lines[:4])
    last = json.loads(lines[3])
    path.write_bytes(kept)
    forged = {"hash": last["hash"], "seq": 4, "size": len(kept)}
    head_path(path).write_text(json.dumps(forged))
    assert verify(path).ok, "without the key nobody can tell"
    assert not verify(path, key=KEY).ok


@pytest.mark.parametrize("mac", ["\ud800", "", None, 7, "0" * 64])
def test_a_keyed_hash_of_whatever_kind_that_is_not_right_is_found(path: Path, mac: object) -> None:
    *lines, last = filled(path, key=KEY)
    path.write_bytes(b"".join([*lines, canonical({**json.loads(last), "mac": mac}) + b"\n"]))
    report = verify(path, key=KEY)
    assert (report.ok, report.bad_line) == (False, len(lines) + 1)
    assert KEY_VARIABLE in report.reason


@pytest.mark.parametrize("key", [None, KEY])
def test_a_log_tells_whether_it_has_a_key(path: Path, key: bytes | None) -> None:
    assert repr(AuditLog(path, key=key)) == f"AuditLog({str(path)!r}, keyed={key is not None})"


def test_a_keyed_log_verifies_without_the_key_and_says_what_was_not_checked(path: Path) -> None:
    filled(path, key=KEY)
    report = verify(path)
    assert report.ok
    assert any(KEY_VARIABLE in note for note in report.notes)
    assert verify(path, key=KEY).notes == ()


@pytest.mark.parametrize(("name", "key"), [("plain", None), ("keyed", KEY)])
def test_a_log_that_was_written_long_ago_verifies_and_goes_on(
    path: Path, name: str, key: bytes | None
) -> None:
    """Hashes and keyed hashes of kept files: another way to compute them would disown all logs."""
    kept = Path(__file__).with_name("kept")
    shutil.copyfile(kept / f"{name}.jsonl", path)
    shutil.copyfile(kept / f"{name}.jsonl.head", head_path(path))
    report = verify(path, key=key)
    assert (report.ok, report.records, report.notes) == (True, 3, ())
    AuditLog(path, key=key).append({"event": "after"})
    assert verify(path, key=key).ok


def test_a_log_begun_with_a_key_is_not_continued_with_another(path: Path) -> None:
    filled(path, key=KEY)
    with pytest.raises(StoreError, match="key"):
        AuditLog(path, key=b"another key, also long enough").append({"event": "x"})


def test_the_key_comes_from_the_environment_and_is_never_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    log = AuditLog(path)
    log.append({"event": "x"})
    assert verify(path).keyed
    assert KEY.decode() not in repr(log) + path.read_text() + head_path(path).read_text()


def test_a_short_key_is_refused_without_showing_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, short := "hunter2 hunter2"[:15])
    with pytest.raises(InputError, match="has 15 bytes, at least 16 are needed") as caught:
        AuditLog(path)
    assert short not in str(caught.value)
    monkeypatch.setenv(KEY_VARIABLE, f"{short}!")
    assert "keyed=True" in repr(AuditLog(path))


# Crashes and full disks.


def torn(path: Path, cut: int) -> bytes:
    """Leave the log as a writer does that is killed ``cut`` bytes into its next record (before
    its end, when negative)."""
    head = head_path(path).read_bytes()
    before = len(path.read_bytes())
    filled(path, 1)
    whole = path.read_bytes()
    left = whole[before:][:cut]
    path.write_bytes(whole[:before] + left)
    head_path(path).write_bytes(head)
    return left


@pytest.mark.parametrize(
    ("left", "notes"),
    [
        ("whole", ()),
        ("gone", ("the head file is missing; the log was checked up to the expected head",)),
        ("damaged", ()),
    ],
)
def test_only_a_head_that_is_gone_is_noted_beside_one_that_was_expected(
    path: Path, left: str, notes: tuple[str, ...]
) -> None:
    filled(path, 2)
    head = verify(path).head
    if left == "gone":
        head_path(path).unlink()
    elif left == "damaged":
        head_path(path).write_bytes(b"{}")
    report = verify(path, expect_head=head)
    assert report.notes == notes
    assert report.ok == (left != "damaged")


def test_a_torn_last_line_verifies_and_is_noted(path: Path) -> None:
    filled(path, 2)
    torn(path, 20)
    report = verify(path)
    assert report.ok
    assert "half written" in report.notes[0]


def test_the_record_after_a_torn_line_names_it_and_the_chain_goes_on(path: Path) -> None:
    filled(path, 2)
    left = torn(path, 20)
    AuditLog(path).append({"event": "after"})
    records = path.read_bytes().splitlines()
    assert records[-3] == left
    assert json.loads(records[-2])["torn_bytes"] == 20
    report = verify(path)
    assert (report.ok, report.recovered, report.records) == (True, 1, 5)


def test_a_torn_line_that_is_changed_later_is_found(path: Path) -> None:
    filled(path, 2)
    left = torn(path, 20)
    AuditLog(path).append({"event": "after"})
    path.write_bytes(path.read_bytes().replace(left + b"\n", left.swapcase() + b"\n"))
    report = verify(path)
    assert not report.ok
    assert report.bad_line == 4


def test_a_record_that_lacks_only_its_newline_is_kept(path: Path) -> None:
    filled(path, 2)
    torn(path, -1)
    AuditLog(path).append({"event": "after"})
    report = verify(path)
    assert (report.ok, report.recovered, report.records) == (True, 0, 5)


def test_a_whole_record_that_the_head_does_not_know_yet_is_kept(path: Path) -> None:
    filled(path, 2)
    head = head_path(path).read_bytes()
    filled(path, 1)
    head_path(path).write_bytes(head)
    assert verify(path).ok
    AuditLog(path).append({"event": "after"})
    report = verify(path)
    assert (report.ok, report.records) == (True, 5)


def test_a_record_after_the_head_that_was_made_without_the_key_is_not_taken_in(path: Path) -> None:
    """Who can write the log but has no key can make a record that only lacks the keyed hash."""
    filled(path, 2, key=KEY)
    torn(path, cut=1 << 20)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=KEY_VARIABLE):
        AuditLog(path, key=KEY).append({"event": "after"})
    assert path.read_bytes() == before


def test_a_keyed_log_goes_on_after_a_record_that_its_head_does_not_know_yet(path: Path) -> None:
    filled(path, 2, key=KEY)
    head = head_path(path).read_bytes()
    filled(path, 1, key=KEY)
    head_path(path).write_bytes(head)
    AuditLog(path, key=KEY).append({"event": "after"})
    report = verify(path, key=KEY)
    assert (report.ok, report.records) == (True, 5)


def test_a_writer_killed_between_making_head_and_log_leaves_a_log_that_can_start(
    path: Path,
) -> None:
    filled(path, 1)
    path.write_bytes(b"")
    head_path(path).write_text('{"hash":"' + GENESIS + '","seq":0,"size":0}')
    AuditLog(path).append({"event": "x"})
    assert verify(path).ok


def append_only(path: Path, change: str) -> None:
    lines = filled(path)
    if change == "cut":
        path.write_bytes(b"".join(lines[:-2]))
    elif change == "headless":
        head_path(path).unlink()
    elif change == "foreign line":
        path.write_bytes(b"".join(lines) + b'{"event":"forged"}\n')


@pytest.mark.parametrize("change", ["cut", "headless", "foreign line"])
def test_nothing_is_appended_to_a_log_that_was_tampered_with(path: Path, change: str) -> None:
    append_only(path, change)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="damaged"):
        AuditLog(path).append({"event": "x"})
    assert path.read_bytes() == before


def test_a_running_writer_notices_that_an_older_copy_was_put_back(path: Path) -> None:
    log = AuditLog(path, fsync=False)
    log.append({"event": "x"})
    older = path.read_bytes(), head_path(path).read_bytes()
    log.append({"event": "y"})
    path.write_bytes(older[0])
    head_path(path).write_bytes(older[1])
    with pytest.raises(StoreError, match="older copy"):
        log.append({"event": "z"})


def test_a_full_disk_is_a_store_error_and_the_log_goes_on_once_there_is_space(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(path, fsync=False)
    log.append({"event": "x"})
    write = os.write

    def fills_up(file: int, data: bytes) -> int:
        if len(data) > 30:
            return write(file, bytes(data)[:30])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(StoreError, match="No space left"):
        log.append({"event": "lost", "why": "the disk is full while this is written"})
    monkeypatch.setattr(os, "write", write)
    log.append({"event": "y"})
    report = verify(path)
    assert (report.ok, report.recovered) == (True, 1)


def test_a_disk_that_cannot_sync_is_a_store_error_and_the_head_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(path)
    log.append({"event": "x"})
    before = head_path(path).read_bytes()

    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError, match="Input/output error"):
        log.append({"event": "y"})
    assert head_path(path).read_bytes() == before


@pytest.mark.parametrize("fsync", [True, False])
def test_a_record_is_on_disk_before_the_head_that_names_it(
    path: Path, fsync: bool, disk_calls: list[tuple[str, str, int]]
) -> None:
    """A head that a power cut leaves ahead of its log would read as tampering."""
    log = AuditLog(path, fsync=fsync)
    for event in ("first", "second"):
        disk_calls.clear()
        log.append({"event": event})
        size, head = path.stat().st_size, head_path(path).stat().st_size
        *before, named = disk_calls[-3:]
        assert named == ("replace", "audit.jsonl.head", head)
        if fsync:
            (first, log_name, log_size), (second, part_name, part_size) = before
            assert (first, log_name, log_size) == ("sync", "audit.jsonl", size)
            assert (second, part_size) == ("sync", head)
            assert part_name.startswith(".audit.jsonl.head.")
        else:
            assert all(what == "replace" for what, _, _ in disk_calls)


@pytest.mark.parametrize("place", ["a file/audit.jsonl", "a folder"])
def test_a_place_that_cannot_hold_a_log_is_a_store_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(StoreError, match="cannot write the audit log"):
        AuditLog(tmp_path / place).append({"event": "x"})
    with pytest.raises(StoreError, match="cannot read the audit log"):
        verify(tmp_path / place)


def test_a_lock_that_is_never_given_back_is_an_error_not_a_hang(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    filled(path, 1)
    monkeypatch.setattr("lmstack.safety.audit.LOCK_TIMEOUT_S", 0.05)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked"):
            AuditLog(path).append({"event": "x"})


# Many writers.


def test_twenty_threads_with_logs_of_their_own_keep_one_chain(path: Path) -> None:
    def work(name: int) -> None:
        log = AuditLog(path, fsync=False)
        for i in range(10):
            log.append({"event": "x", "writer": name, "i": i})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(path)
    assert (report.ok, report.records) == (True, 201)


WRITER = """
import sys
from lmstack.safety import AuditLog
log = AuditLog(sys.argv[1], fsync=False)
print("ready", flush=True)
for i in range(int(sys.argv[2])):
    log.append({"event": "x", "writer": sys.argv[3], "i": i})
"""


def writer(path: Path, count: int, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_processes_killed_while_they_write_leave_one_chain(path: Path) -> None:
    rng = random.Random(7)
    processes = [writer(path, 100_000, str(n)) for n in range(4)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    while path.read_bytes().count(b"\n") <= 10:
        time.sleep(0.01)
    for process in processes:
        time.sleep(0.05 + rng.random() / 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    AuditLog(path).append({"event": "after"})
    report = verify(path)
    assert report.ok, report
    assert report.records > 10


def test_verifying_while_others_write_sees_a_right_log(path: Path) -> None:
    process = writer(path, 100_000, "busy")
    assert process.stdout is not None
    process.stdout.readline()
    seen: set[int] = set()
    deadline = time.monotonic() + 20
    try:
        while len(seen) < 4 and time.monotonic() < deadline:
            if path.exists():
                report = verify(path)
                assert report.ok, report
                seen.add(report.records)
    finally:
        process.kill()
        process.communicate()
    assert len(seen) == 4
