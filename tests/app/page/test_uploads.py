"""Adding files on the page: which are taken, how they come to disk, who sees them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from tests.app.services import local_service

from lmstack.app.server.access import Access, KeyEntry
from lmstack.app.server.uploads import Incoming, UploadConfig, Uploads, check_name
from lmstack.core import InputError, LmstackError, OverloadedError, ScriptedModel, StoreError
from lmstack.rag import FORMATS, LoadConfig
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.guard import client_of_key, key_digest

NOTE = b"# Tulips\n\nTulips bloom in April.\n"
BYTES = {"Content-Type": "application/octet-stream"}
HR, IT, NONE, BOSS = "key-of-hr", "key-of-it", "key-of-none", "key-of-boss"


def access() -> Access:
    held = {HR: frozenset({"hr"}), IT: frozenset({"it", "hr"}), NONE: frozenset[str](), BOSS: None}
    return Access((), [KeyEntry(key_digest(key), labels) for key, labels in held.items()])


def folder(tmp_path: Path, who: Access | None = None, **limits: Any) -> Uploads:
    load = LoadConfig(max_file_bytes=limits.pop("max_file_bytes", 1000))
    config = UploadConfig(**{"min_free_bytes": 0, **limits})
    uploads = Uploads(tmp_path, who or Access(), load, config)
    uploads.prepare()
    uploads.ready()
    return uploads


def add(uploads: Uploads, name: str, data: bytes = NOTE, client: str = "local") -> Incoming:
    incoming = uploads.begin(client, name, len(data))
    try:
        incoming.write(data)
        incoming.complete(len(data))
        incoming.finish()
    finally:
        incoming.close()
    return incoming


def names(place: Path) -> list[str]:
    return sorted(os.listdir(place))


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".md", "../a.md", "/etc/a.md", "a/b.md", "..\\a.md", "C:a.md", "a\x00.md"),
        *("a\n.md", "a\u202edm.exe.md", "a\u200b.md", "\ufeffa.md", "con.md", "LPT1.x.md", "~a.md"),
        *("-rf.md", ".hidden.md", "a.md.", "a.md ", "a.exe", "a", "a?.md", "x" * 300 + ".md"),
        *("a\ud800.md", "a\u2028b.md"),
    ],
)
def test_name_that_could_mislead_or_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError) as found:
        check_name(name)
    assert found.value.hint


@pytest.mark.parametrize(
    "name", ["Bericht Größe.md", "報告.pdf", "a.b.c.txt", "e\u0301te\u0301.md"]
)
def test_name_of_any_language_is_kept(name: str) -> None:
    assert check_name(name, "utf-8") == unicodedata.normalize("NFC", name)


def test_name_that_the_locale_cannot_write_is_refused() -> None:
    assert check_name("größe.md", "latin-1") == "größe.md"
    with pytest.raises(InputError, match="cannot be written in latin-1"):
        check_name("大きさ.md", "latin-1")


@given(st.text(max_size=40), st.sampled_from(["", *sorted(FORMATS)]))
def test_accepted_name_is_one_visible_component(stem: str, ending: str) -> None:
    try:
        name = check_name(stem + ending)
    except InputError:
        return
    assert os.path.basename(name) == name
    assert not name.startswith(".")
    assert name.isprintable() or all(unicodedata.category(c)[0] in "LMNPSZ" for c in name)
    assert len(name.encode()) <= 200


# ---- on disk


def test_file_is_hidden_until_it_is_whole(tmp_path: Path) -> None:
    uploads = folder(tmp_path)
    incoming = uploads.begin("local", "a.md", len(NOTE))
    incoming.write(NOTE[:5])
    assert all(name.startswith(".") for name in names(uploads.root))
    incoming.write(NOTE[5:])
    incoming.complete(len(NOTE))
    incoming.finish()
    incoming.close()
    assert names(uploads.root) == ["a.md"]
    assert (uploads.root / "a.md").read_bytes() == NOTE


def test_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    uploads = folder(tmp_path)
    incoming = uploads.begin("local", "a.md", 100)
    incoming.write(NOTE)
    with pytest.raises(InputError, match="broke off"):
        incoming.complete(100)
    incoming.close()
    incoming.write(b"late")  # of a thread that did not hear of the end
    assert names(uploads.root) == []


def test_file_is_on_disk_whole_before_it_has_its_name_and_the_name_before_it_is_told(
    tmp_path: Path, disk_calls: list[tuple[str, str, int]]
) -> None:
    uploads = folder(tmp_path)
    add(uploads, "a.md")
    calls = [(what, "hidden" if name[0] == "." else name) for what, name, _ in disk_calls]
    assert calls == [("sync", "hidden"), ("link", "a.md"), ("sync", "uploads")]
    assert [size for _, _, size in disk_calls[:2]] == [len(NOTE)] * 2


@pytest.mark.parametrize(
    ("there", "again"),
    [("a.md", "a.md"), ("a.md", "A.MD"), ("e\u0301.md", "\u00e9.md"), ("E\u0301.md", "e\u0301.md")],
)
def test_file_is_never_written_over(there: str, again: str, tmp_path: Path) -> None:
    uploads = folder(tmp_path)
    (uploads.root / there).write_bytes(NOTE)  # as another program spells it
    with pytest.raises(HttpError) as found:
        add(uploads, again, b"other")
    assert found.value.http_status == 409
    assert names(uploads.root) == [there]
    assert (uploads.root / there).read_bytes() == NOTE


def test_file_that_appears_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    uploads = folder(tmp_path)
    incoming = uploads.begin("local", "a.md", len(NOTE))
    incoming.write(NOTE)
    (uploads.root / "a.md").write_bytes(b"first")
    with pytest.raises(HttpError, match="already"):
        incoming.finish()
    incoming.close()
    assert (uploads.root / "a.md").read_bytes() == b"first"


def test_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "uploads").symlink_to(outside)
    with pytest.raises(StoreError, match="not a link"):
        folder(tmp_path / "docs")
    assert names(outside) == []


def test_nothing_is_taken_before_the_labels_hold(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Access())
    with pytest.raises(HttpError) as found:
        uploads.begin("local", "a.md", 10)
    assert found.value.http_status == 503


def refusals(uploads: Uploads) -> dict[str, int]:
    def status(size: int | None, data: bytes = b"") -> int:
        try:
            incoming = uploads.begin("local", "new.md", size)
        except LmstackError as error:
            return error.http_status
        try:
            incoming.write(data)
            return 0
        except LmstackError as error:
            return error.http_status
        finally:
            incoming.close()

    return {"known": status(1001), "more": status(5, b"123456"), "small": status(5)}


def test_size_of_a_file_is_limited_whether_declared_or_not(tmp_path: Path) -> None:
    assert refusals(folder(tmp_path)) == {"known": 413, "more": 413, "small": 0}


@pytest.mark.parametrize(
    "limits", [{"max_files": 1}, {"max_total_bytes": 36}, {"min_free_bytes": 2**50}]
)
def test_count_total_and_disk_have_limits(limits: dict[str, int], tmp_path: Path) -> None:
    uploads = folder(tmp_path, **limits)
    (uploads.root / "old.md").write_bytes(NOTE)
    assert refusals(uploads)["small"] == 507


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_files": 2}, "as many files"),
        ({"max_total_bytes": 1500}, "more bytes"),
        ({"min_free_bytes": 500}, "disk is nearly full"),
    ],
)
def test_files_under_way_take_their_room(
    limits: dict[str, int], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = folder(tmp_path, **limits)
    (uploads.root / "old.md").write_bytes(b"x")
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=20, f_frsize=100))
    first = uploads.begin("local", "a.md", 1000)
    with pytest.raises(HttpError, match=said) as found:
        uploads.begin("local", "b.md", 501)
    assert found.value.http_status == 507
    first.close()
    uploads.begin("local", "b.md", 501).close()


def test_one_client_adds_few_files_at_a_time(tmp_path: Path) -> None:
    uploads = folder(tmp_path)
    first, second = (uploads.begin("local", name, 500) for name in ("a.md", "b.md"))
    with pytest.raises(OverloadedError):
        uploads.begin("local", "c.md", 0)
    for incoming in (first, second):
        incoming.close()
    add(uploads, "c.md")


# ---- labels


def states(workspace: Any, name: str, client: str = "local") -> list[str]:
    return [row["state"] for row in workspace.documents(name, client)["documents"]]


def test_files_of_labelled_keys_go_where_their_labels_hold(tmp_path: Path) -> None:
    uploads = folder(tmp_path, access())
    hr, it, boss = (client_of_key(key) for key in (HR, IT, BOSS))
    assert add(uploads, "a.md", client=hr).path == uploads.root / "for-hr" / "a.md"
    assert add(uploads, "a.md", client=it).path == uploads.root / "for-hr+it" / "a.md"
    assert add(uploads, "a.md", client=boss).path == uploads.root / "a.md"
    with pytest.raises(HttpError) as found:
        add(uploads, "b.md", client=client_of_key(NONE))
    assert found.value.http_status == 403


def test_names_under_way_are_taken_for_those_who_hold_their_labels_alone(tmp_path: Path) -> None:
    uploads = folder(tmp_path, access())
    hr, it = client_of_key(HR), client_of_key(IT)
    first = uploads.begin(hr, "pay.md", 10)
    with pytest.raises(HttpError, match="already") as found:
        uploads.begin(hr, "Pay.md", 10)
    assert found.value.http_status == 409
    for incoming in (uploads.begin(it, "pay.md", 10), first):
        incoming.close()
    assert add(uploads, "pay.md", client=hr).path == uploads.root / "for-hr" / "pay.md"


def test_nobody_without_the_labels_sees_what_was_added(make: Any, until: Any) -> None:
    workspace = make(access=access(), takes_files=True)
    workspace.start_indexing()
    until(lambda: workspace.status(client_of_key(BOSS))["state"] == "ready")
    clients = {key: client_of_key(key) for key in (HR, IT, NONE, BOSS)}
    before = {key: workspace.documents(client=c)["found"] for key, c in clients.items()}
    add(workspace.uploads, "pay.md", client=clients[HR])
    workspace.start_indexing()
    until(lambda: states(workspace, "pay.md", clients[HR]) == ["indexed"])
    grown = {
        key: workspace.documents(client=c)["found"] - before[key] for key, c in clients.items()
    }
    assert grown == {HR: 1, IT: 1, NONE: 0, BOSS: 1}


def test_whoever_added_a_file_learns_what_is_wrong_with_it(make: Any, until: Any) -> None:
    workspace = make(access=access(), takes_files=True)
    workspace.start_indexing()
    until(lambda: workspace.status(client_of_key(BOSS))["state"] == "ready")
    add(workspace.uploads, "bad.pdf", b"no pdf at all", client=client_of_key(HR))
    workspace.start_indexing()
    until(lambda: states(workspace, "bad.pdf", client_of_key(HR)) == ["problem"])
    assert states(workspace, "bad.pdf", client_of_key(NONE)) == []


# ---- routes


def put(url: str, name: str, data: Any = NOTE, headers: Any = BYTES) -> httpx.Response:
    return httpx.put(f"{url}/api/uploads", params={"name": name}, content=data, headers=headers)


def test_files_are_taken_only_where_uploads_were_switched_on(make: Any, serve: Any) -> None:
    workspace = make()
    response = put(serve(workspace).url, "a.md")
    assert response.status_code == 403
    assert "--uploads" in response.json()["error"]["hint"]
    assert workspace.status()["uploads"] is None


def test_added_file_is_recorded_indexed_and_answered_from(
    make: Any, serve: Any, until: Any, docs: Path
) -> None:
    workspace, records = make(takes_files=True), []
    url = serve(workspace, record=records.append).url
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    response = put(url, "tulips.md")
    assert (response.status_code, response.json()["path"]) == (201, "docs/uploads/tulips.md")
    assert (docs / "uploads" / "tulips.md").read_bytes() == NOTE
    assert [(r["event"], r["bytes"]) for r in records] == [("uploaded", len(NOTE))]
    until(lambda: states(workspace, "tulips") == ["indexed"])
    assert put(url, "tulips.md", b"other").status_code == 409
    chunked = put(url, "more.md", iter([NOTE, NOTE]))
    assert (chunked.status_code, chunked.json()["bytes"]) == (201, 2 * len(NOTE))


def test_no_record_no_file(make: Any, serve: Any, until: Any, docs: Path) -> None:
    def full(_: Any) -> None:
        raise StoreError("the log is full")

    workspace = make(takes_files=True)
    url = serve(workspace, record=full).url
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    assert put(url, "a.md").status_code == 507
    assert names(docs / "uploads") == []


def test_other_sites_and_forms_cannot_add_files(make: Any, serve: Any, docs: Path) -> None:
    workspace = make(takes_files=True)
    url = serve(workspace).url
    foreign = put(url, "a.md", headers={**BYTES, "Origin": "http://evil.example"})
    form = put(url, "a.md", headers={"Content-Type": "text/plain"})
    assert (foreign.status_code, form.status_code) == (403, 415)
    assert (
        httpx.post(f"{url}/api/uploads?name=a.md", content=NOTE, headers=BYTES).status_code == 405
    )


def test_uploads_need_a_folder(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.md").write_bytes(NOTE)
    ran = run("up", str(tmp_path / "a.md"), "--uploads")
    assert ran.code != 0
    assert "--uploads needs a folder" in ran.err


def test_folder_that_cannot_be_written_to_ends_the_start(
    docs: Path, home: Path, embedder: Any
) -> None:
    (docs / "uploads").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written to"):
        local_service(docs, ScriptedModel(), embedder, uploads=True)


# ---- the page


@pytest.mark.browser
def test_dropped_files_show_how_far_they_are_and_what_is_wrong(
    make: Any, open_page: Any, until: Any, shot: Any
) -> None:
    workspace = make(takes_files=True)
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    page = open_page(workspace, expect="409|400")
    page.get_by_role("button", name="Sources").or_(page.locator("#folder")).first.click()
    expect(page.get_by_role("button", name="Add files")).to_be_visible()
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["# Tulips\\n\\nTulips bloom in April.\\n"], "tulips.md"));
          data.items.add(new File(["\\u0000"], "picture.exe"));
          data.items.add(new File(["not a pdf"], "<b>bad</b>.pdf".replaceAll(/[<>/]/g, "")));
          const options = {dataTransfer: data, bubbles: true, cancelable: true};
          for (const kind of ["dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(kind, options));
        }"""
    )
    rows = page.locator(".uploads .file")
    expect(rows.filter(has_text="tulips.md").locator(".state-word")).to_have_text("ready")
    expect(rows.filter(has_text="picture.exe")).to_contain_text("source code are")
    expect(rows.filter(has_text="bbadb.pdf").locator(".state-word")).to_have_text("problem")
    expect(page.locator(".files button.file", has_text="docs/uploads/tulips.md")).to_be_visible()
    shot(page, "uploads")
