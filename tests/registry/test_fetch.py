"""Downloads that break, lie, or are cut."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from lmstack.core import AuthError, IntegrityError, NotFoundError, RemoteError, StoreError
from lmstack.registry.sources.download import RemoteFile, check_space, download

DATA = hashlib.sha256(b"x").digest() * 20_000
SIZE = len(DATA)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def fetch(site, tmp_path):
    site.files["/f"] = DATA

    def fetch(sha256=SHA256, size=SIZE, seen=None, headers=None):
        with httpx.Client(trust_env=False) as client:
            download(
                RemoteFile(f"{site.url}/f", "f", sha256, size),
                tmp_path / "f",
                client,
                headers=headers,
                progress=None if seen is None else lambda *args: seen.append(args),
            )
        return (tmp_path / "f").read_bytes()

    return fetch


def test_folders_are_made_for_the_file_and_for_what_arrives_of_it(site, tmp_path):
    site.files["/f"] = DATA
    target, part = tmp_path / "a" / "b" / "f", tmp_path / "c" / "d" / "f"
    with httpx.Client(trust_env=False) as client:
        download(RemoteFile(f"{site.url}/f", "f", SHA256), target, client, part=part)
    assert target.read_bytes() == DATA
    assert not part.exists()


def test_what_lay_there_of_something_else_is_fetched_anew_in_the_same_way(site, tmp_path):
    site.files["/f"] = DATA
    part, seen = tmp_path / "parts" / "p", []
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)

    def progress(label, done, total):
        seen.append((done, sorted(path.name for path in tmp_path.iterdir())))

    with httpx.Client(trust_env=False) as client:
        file, headers = RemoteFile(f"{site.url}/f", "f", SHA256), {"Authorization": "Bearer x"}
        download(file, tmp_path / "f", client, part=part, headers=headers, progress=progress)
    assert (tmp_path / "f").read_bytes() == DATA
    assert [auth for *_, auth in site.requests] == ["Bearer x"] * 2
    assert [each[0] for each in seen].count(SIZE) == 2
    assert {tuple(names) for _, names in seen} == {("parts",)}


def test_progress_counts_up_to_the_size(fetch):
    seen = []
    assert fetch(seen=seen) == DATA
    counts = [done for _, done, _ in seen]
    assert counts == sorted(counts)
    assert seen[-1] == ("f", len(DATA), len(DATA))


def test_broken_connection_goes_on_where_it_stopped(fetch, site):
    site.drops["/f"] = [100_000, 200_000]
    assert fetch() == DATA
    assert site.sent["/f"] == len(DATA)
    assert site.starts("/f") == ["", "bytes=100000-", "bytes=300000-"]


def test_any_number_of_breaks_is_borne_while_bytes_come(fetch, site):
    site.drops["/f"] = [50_000] * 8
    assert fetch() == DATA
    assert len(site.requests) == 9


def test_server_that_compresses_what_it_sends_is_told_not_to(fetch, site):
    site.files["/f"] = data = b"alike" * 100_000
    site.compresses = True
    site.drops["/f"] = [200_000]
    for size in (len(data), None):
        assert fetch(sha256=hashlib.sha256(data).hexdigest(), size=size) == data


@pytest.mark.parametrize("size", [1, 400_000])
def test_what_lay_there_is_tried_once_and_what_came_whole_is_not(fetch, site, tmp_path, size):
    (tmp_path / "f.part").write_bytes(b"?" * size)
    with pytest.raises(IntegrityError):
        fetch(sha256="0" * 64)
    assert len(site.requests) == 2
    with pytest.raises(IntegrityError):
        fetch(sha256="0" * 64)
    assert len(site.requests) == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_body_shorter_than_the_stated_size_is_never_kept_nor_fetched_for_ever(
    fetch, site, tmp_path, ranges
):
    site.ranges = ranges
    with pytest.raises(RemoteError, match="cannot be fetched"):
        fetch(sha256="", size=SIZE + 100)
    assert not (tmp_path / "f").exists()
    assert len(site.requests) == 6


def test_partial_file_of_a_killed_download_is_continued(fetch, site, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA[:400_000])
    assert fetch() == DATA
    assert site.sent["/f"] == len(DATA) - 400_000


def test_partial_file_with_wrong_bytes_is_started_over(fetch, site, tmp_path):
    (tmp_path / "f.part").write_bytes(b"?" * 400_000)
    seen = []
    assert fetch(seen=seen, headers={"Authorization": "Bearer t"}) == DATA
    assert [authorization for _, _, authorization in site.requests] == ["Bearer t"] * 2
    assert seen[-1] == ("f", SIZE, SIZE)


def test_complete_partial_file_needs_no_request(fetch, site, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA)
    assert fetch() == DATA
    assert site.requests == []


def test_partial_file_that_is_too_long_is_started_over(fetch, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA + b"more")
    assert fetch() == DATA


def test_server_without_ranges_starts_over(fetch, site, tmp_path):
    site.ranges = False
    site.drops["/f"] = [100_000]
    assert fetch() == DATA


def test_without_a_hash_two_halves_are_never_joined(fetch, site, tmp_path):
    (tmp_path / "f.part").write_bytes(b"old version")
    assert fetch(sha256="") == DATA


def test_wrong_hash_leaves_nothing_behind(fetch, tmp_path):
    with pytest.raises(IntegrityError, match="expected 0000"):
        fetch(sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_file_longer_than_announced_is_stopped(fetch):
    with pytest.raises(IntegrityError, match="longer than"):
        fetch(size=1000)


def test_dead_server_is_a_remote_error_that_keeps_what_came(fetch, site, tmp_path):
    site.drops["/f"] = [100_000, *[0] * 20]
    with pytest.raises(RemoteError, match="cannot be fetched") as caught:
        fetch()
    assert "run it again" in caught.value.hint
    assert (tmp_path / "f.part").stat().st_size == 100_000


def test_each_pause_is_twice_the_last_until_bytes_come(fetch, site, monkeypatch):
    pauses = []
    monkeypatch.setattr("lmstack.registry.sources.download.time.sleep", pauses.append)
    site.drops["/f"] = [0, 0, 100_000, 0, 0]
    assert fetch() == DATA
    # The server's own are 0.
    assert [pause for pause in pauses if pause] == [0.002, 0.004, 0.001, 0.002, 0.004]


@pytest.mark.parametrize("code", [500, 503, 429])
def test_server_error_is_tried_again(fetch, site, code):
    site.status["/f"] = code
    with pytest.raises(RemoteError):
        fetch()
    assert len(site.requests) == 5


@pytest.mark.parametrize(
    ("code", "error"),
    [(404, NotFoundError), (401, AuthError), (403, AuthError), (400, RemoteError)],
)
def test_refusals_are_not_tried_again(fetch, site, code, error):
    site.status["/f"] = code
    with pytest.raises(error):
        fetch()
    assert len(site.requests) == 1


def test_full_disk_says_so(fetch, tmp_path):
    (tmp_path / "f.part").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"^writing .*f failed: No space left") as caught:
        fetch(sha256=SHA256)
    assert "LMSTACK_HOME" in caught.value.hint


def test_too_little_space_is_seen_before_the_download(tmp_path):
    with pytest.raises(StoreError, match="MB free"):
        check_space(tmp_path, 10**18, "model")


def test_file_in_the_way_of_the_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"^writing .*folder failed.*in the way"):
        check_space(tmp_path / "file" / "folder", 1, "model")
