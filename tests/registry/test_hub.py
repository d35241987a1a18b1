"""Hugging Face repositories, from an endpoint on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import threading
from types import SimpleNamespace

import pytest

from lmstack.core import (
    AuthError,
    FormatError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from lmstack.registry.refs import HubRef
from lmstack.registry.sources import hub as hubs
from lmstack.registry.sources.download import RemoteFile
from lmstack.registry.sources.hub import fetch_file, fetch_repository

COMMIT = "c0ffee" * 6 + "abcd"


def publish(hub, files, *, revision="main", licence="apache-2.0", lie=""):
    """Serve ``files`` as org/tiny: safetensors and GGUF as large files, the rest as git blobs."""
    siblings = []
    for name, data in files.items():
        entry = {"rfilename": name, "size": len(data)}
        content = b"lie" if name == lie else data
        if name.endswith((".safetensors", ".gguf", ".bin")):
            entry["lfs"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(data),
                "pointerSize": 130,
            }
        else:
            blob = b"blob %d\0" % len(content) + content
            entry["blobId"] = hashlib.sha1(blob).hexdigest()
        siblings.append(entry)
        hub.files[f"/cdn/{name}"] = data
        hub.redirects[f"/org/tiny/resolve/{COMMIT}/{name}"] = f"{hub.url}/cdn/{name}"
    info = {"id": "org/tiny", "sha": COMMIT, "siblings": siblings, "cardData": {"license": licence}}
    hub.files[f"/api/models/org/tiny/revision/{revision}"] = json.dumps(info).encode()


def test_repository_becomes_a_model_folder_pinned_to_its_commit(hub, store, model_files):
    publish(hub, {**model_files, "modeling_tiny.py": b"raise SystemExit"})
    folder = store.pull("hf:org/tiny")
    folder.verify()
    assert sorted(folder.card.files) == ["config.json", "model.safetensors"]
    assert folder.card.source == f"hf:org/tiny@{COMMIT}"
    assert folder.card.licence == "apache-2.0 (stated by the package)"
    assert store.resolve("hf:org/tiny").digest == folder.digest
    assert not any("modeling" in path for path, _, _ in hub.requests)


def test_pull_goes_on_after_a_lost_connection(hub, store, model_files, make_safetensors):
    publish(hub, {**model_files, "model.safetensors": make_safetensors(200_000)})
    hub.drops["/cdn/model.safetensors"] = [300_000]
    store.pull("hf:org/tiny").verify()
    assert hub.sent["/cdn/model.safetensors"] == len(make_safetensors(200_000))


def test_what_a_repository_has_not_sent_yet_waits_among_the_downloads(store, monkeypatch):
    asked = []

    def refused(ref, target, parts, progress):
        asked.append((str(ref), parts, progress))
        raise RemoteError("not now")

    monkeypatch.setattr("lmstack.registry.sources.hub.fetch_repository", refused)
    with pytest.raises(RemoteError, match="not now"):
        store.pull("hf:org/tiny", progress=print)
    assert asked == [("hf:org/tiny@main", store.root / "downloads", print)]


def test_files_of_a_pull_that_failed_are_not_fetched_twice(
    hub, store, model_files, make_safetensors
):
    publish(hub, {**model_files, "model.safetensors": make_safetensors(200_000)})
    hub.drops["/cdn/model.safetensors"] = [300_000]
    hub.status["/cdn/model.safetensors"] = 403
    with pytest.raises(AuthError):
        store.pull("hf:org/tiny")
    hub.status.clear()
    hub.drops["/cdn/model.safetensors"] = [300_000, *[0] * 9]
    with pytest.raises(RemoteError):
        store.pull("hf:org/tiny")
    hub.drops.clear()
    store.pull("hf:org/tiny").verify()
    assert hub.sent["/cdn/model.safetensors"] == len(make_safetensors(200_000))


def test_token_goes_to_the_endpoint(hub, store, model_files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publish(hub, model_files)
    store.pull("hf:org/tiny")
    assert all(auth == "Bearer hf_secret" for path, _, auth in hub.requests if "/cdn/" not in path)


def test_progress_counts_the_bytes_of_each_file(hub, store, model_files):
    publish(hub, model_files)
    seen = {}
    store.pull("hf:org/tiny", progress=lambda file, done, total: seen.update({file: (done, total)}))
    assert seen == {name: (len(data), len(data)) for name, data in model_files.items()}


@pytest.mark.parametrize("large", ["model.safetensors", "config.json"])
def test_a_model_larger_than_the_disk_is_refused_before_a_byte_comes(
    hub, store, model_files, large
):
    publish(hub, model_files)
    path = "/api/models/org/tiny/revision/main"
    info = json.loads(hub.files[path])
    entry = next(each for each in info["siblings"] if each["rfilename"] == large)
    entry["size"] = 1 << 60
    entry.get("lfs", {})["size"] = 1 << 60
    hub.files[path] = json.dumps(info).encode()
    with pytest.raises(StoreError, match="needs 1152921504607 MB"):
        store.pull("hf:org/tiny")
    assert not any("/cdn/" in path for path, _, _ in hub.requests)


def test_mirror_may_end_in_a_slash(hub, store, model_files, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    publish(hub, model_files)
    store.pull("hf:org/tiny").verify()


def test_token_of_a_login_is_used(hub, store, model_files, tmp_path):
    (tmp_path / "token").write_text("hf_kept")
    publish(hub, model_files)
    store.pull("hf:org/tiny")
    assert all(auth == "Bearer hf_kept" for path, _, auth in hub.requests if "/cdn/" not in path)


def test_requests_tell_nothing_of_other_packages(hub, store, model_files):
    publish(hub, model_files)
    store.pull("hf:org/tiny")
    assert hub.agents
    assert not any("torch" in agent or "agent/" in agent for agent in hub.agents)


def test_offline_is_an_error_that_names_the_setting(hub, store, model_files, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    publish(hub, model_files)
    with pytest.raises(RemoteError, match="HF_HUB_OFFLINE"):
        store.pull("hf:org/tiny")
    assert hub.requests == []


def test_token_does_not_follow_a_redirect_to_another_host(hub, store, model_files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publish(hub, model_files)
    other = hub.url.replace("127.0.0.1", "127.1")
    hub.redirects = {k: v.replace(hub.url, other) for k, v in hub.redirects.items()}
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,127.1")
    store.pull("hf:org/tiny")
    assert {auth for path, _, auth in hub.requests if "/cdn/" in path} == {""}


@pytest.mark.parametrize("lie", ["model.safetensors", "config.json"])
def test_file_with_another_hash_never_enters_the_store(hub, store, model_files, lie):
    publish(hub, model_files, lie=lie)
    with pytest.raises(IntegrityError):
        store.pull("hf:org/tiny")
    assert store.models() == []


def test_revision_is_part_of_the_name(hub, store, model_files):
    publish(hub, model_files, revision="v1.0")
    assert store.pull("hf:org/tiny@v1.0").name == "org--tiny-v1.0"


def test_repository_of_pickles_is_refused_before_any_download(hub, store):
    publish(hub, {"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(FormatError, match="pickle"):
        store.pull("hf:org/tiny")
    assert len(hub.requests) == 1


@pytest.mark.parametrize(("code", "error"), [(401, AuthError), (404, NotFoundError),
                                             (500, RemoteError), (418, RemoteError)])  # fmt: skip
def test_refusal_of_the_endpoint_is_a_clear_error(hub, store, code, error):
    hub.status["/api/models/org/tiny/revision/main"] = code
    with pytest.raises(error) as caught:
        store.pull("hf:org/tiny")
    assert caught.value.hint


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"\xff", b""])
def test_answer_that_is_no_api_is_a_remote_error(hub, store, answer):
    hub.files["/api/models/org/tiny/revision/main"] = answer
    with pytest.raises(RemoteError, match="as the Hugging Face API does"):
        store.pull("hf:org/tiny")


def test_unreachable_endpoint_is_a_remote_error(store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(RemoteError, match="cannot be reached"):
        store.pull("hf:org/tiny")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": ["mit", "bsd"]}, "mit AND bsd"),
        ({"license": "other", "license_name": "own"}, "own"),
        ({"license": "other"}, "other"),
        ({"license_name": "own"}, "own"),
        ({"license": "mit", "license_name": "own"}, "mit"),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_licence_is_what_the_card_of_the_repository_states(
    hub, tmp_path, model_files, card, licence
):
    publish(hub, model_files)
    path = "/api/models/org/tiny/revision/main"
    info = json.loads(hub.files[path])
    hub.files[path] = json.dumps(info | {"cardData": card}).encode()
    ref = HubRef("org/tiny")
    found, commit, left = fetch_repository(ref, tmp_path / "to", tmp_path / "parts", None)
    assert (found, commit, left) == (licence, COMMIT, ())


def test_what_is_left_out_of_a_repository_is_said_in_the_card(hub, store, model_files):
    publish(hub, {**model_files, "b.bin": b"x", "a.gguf": b"x"})
    assert store.pull("hf:org/tiny").card.notes == ("left out: a.gguf, b.bin",)


def test_what_a_repository_does_not_state_is_done_without(hub, tmp_path, model_files):
    """Neither commit nor hash nor size, as of some mirrors."""
    publish(hub, model_files)
    path = "/api/models/org/tiny/revision/v1"
    names = [{"rfilename": name} for name in model_files]
    hub.files[path] = json.dumps({"id": "org/tiny", "siblings": names}).encode()
    for name, data in model_files.items():
        hub.files[f"/org/tiny/resolve/v1/{name}"] = data
    parts = tmp_path / "parts"
    ref = HubRef("org/tiny", "v1")
    found = fetch_repository(ref, tmp_path / "to", parts, None)
    assert found == ("", "v1", ())
    assert (tmp_path / "to" / "config.json").read_bytes() == model_files["config.json"]


def test_parts_of_files_wait_by_their_hash_or_else_their_address(
    hub, tmp_path, model_files, monkeypatch
):
    publish(hub, model_files)
    waits, settings = [], []

    def download(file, target, client, *, part, headers, progress):
        waits.append((file.digest or hashlib.sha256(file.url.encode()).hexdigest(), part))

    client = hubs.httpx.Client
    monkeypatch.setattr(hubs, "download", download)
    monkeypatch.setattr(hubs.httpx, "Client", lambda **how: settings.append(how) or client(**how))
    path = "/api/models/org/tiny/revision/main"
    for stated in (True, False):
        if not stated:
            info = json.loads(hub.files[path])
            info["siblings"] = [{"rfilename": name} for name in model_files]
            hub.files[path] = json.dumps(info).encode()
        hubs.fetch_repository(HubRef("org/tiny"), tmp_path / "to", tmp_path / "parts", None)
    assert [part for _, part in waits] == [
        tmp_path / "parts" / f"{digest[:32]}.part" for digest, _ in waits
    ]
    assert len({part for _, part in waits}) == 4
    assert {"follow_redirects": True, "timeout": 60} in settings


def test_a_repository_that_does_not_fit_the_disk_is_named(hub, tmp_path, model_files, monkeypatch):
    publish(hub, model_files)
    size = sum(map(len, model_files.values()))
    for free, fits in ((size - 1, False), (size, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            fetch_repository(HubRef("org/tiny"), tmp_path / "to", tmp_path / "parts", None)
            continue
        with pytest.raises(StoreError, match=r"^hf:org/tiny@main needs 0 MB, .*/to has 0 MB"):
            fetch_repository(HubRef("org/tiny"), tmp_path / "to", tmp_path / "parts", None)


@pytest.mark.parametrize(("status", "error"), [(200, None), (206, None), (404, NotFoundError)])
def test_the_one_file_is_asked_for_by_its_first_byte_at_a_mirror_and_then_as_a_whole(
    hub, tmp_path, monkeypatch, status, error
):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = "/org/tiny/resolve/v1/a/b.bin"
    hub.ranges = status == 206
    if error is None:
        hub.files[path] = b"content"
    seen = []
    (tmp_path / "part").write_bytes(b"con")
    ref, file = HubRef("org/tiny", "v1", "a/b.bin"), RemoteFile("", "label", "", 7)
    for part, begun in ((tmp_path / "part", 3), (tmp_path / "none", 0)):
        arguments = (ref, file, tmp_path / "to", part, lambda *state: seen.append(state))
        if error is not None:
            with pytest.raises(error, match=f"^{hub.url} has no hf:org/tiny@v1#a/b.bin"):
                fetch_file(*arguments)
            continue
        fetch_file(*arguments)
        assert (tmp_path / "to").read_bytes() == b"content"
        assert (seen[0], seen[-1]) == (("label", begun, 7), ("label", 7, 7))
        seen.clear()
    assert {where for where, *_ in hub.requests} == {path}
    assert {auth for *_, auth in hub.requests} == {"Bearer hf_secret"}
    assert not any("torch" in agent for agent in hub.agents), "nor what else is installed here"
    assert hub.requests[0][1] == "bytes=0-0"


def test_who_looks_whether_an_endpoint_answers_keeps_no_process_alive(hub, tmp_path, monkeypatch):
    threads, settings = [], []
    stream = hubs.httpx.Client.stream

    def watched(client, *args, **how):
        threads.append(threading.current_thread().daemon)
        settings.append(how.get("timeout"))
        return stream(client, *args, **how)

    monkeypatch.setattr(hubs.httpx.Client, "stream", watched)
    hub.files["/org/tiny/resolve/main/x"] = b"x"
    fetch_file(
        HubRef("org/tiny", part="x"), RemoteFile("", "x"), tmp_path / "x", tmp_path / "y", None
    )
    assert threads == [True, False]
    assert settings == [5.0, None]
