"""Filters on the page: what is offered, with counts of what the caller sees, and what they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from lmstack.app.page.filters import facets_of, read_filter
from lmstack.app.page.view import PageView
from lmstack.app.server.access import Access, KeyEntry
from lmstack.core import InputError
from lmstack.rag import DocumentInfo
from lmstack.serve.http.guard import client_of_digest, key_digest

MATTER = "---\ntags: [{tags}]\ndate: {date}\n{access}---\n\n# {name}\n\n{text}\n"


@pytest.fixture
def notes(docs: Path) -> Path:
    for name, tags, date, access, text in (
        ("plan", "budget, travel", "2024-05-01", "", "The budget for travel is 900 euros."),
        ("pay", "budget", "2025-02-01", "access: hr\n", "The budget for pay is 70000 euros."),
    ):
        (docs / "notes").mkdir(exist_ok=True)
        (docs / "notes" / f"{name}.md").write_text(
            MATTER.format(tags=tags, date=date, access=access, name=name, text=text)
        )
    return docs


@pytest.fixture
def filled(notes: Path, make: Any, until: Any) -> PageView:
    workspace: PageView = make()
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    return workspace


def offered(workspace: PageView, client: str = "local") -> dict[str, dict[str, int]]:
    return {
        facet["field"]: {value["value"]: value["count"] for value in facet["values"]}
        for facet in workspace.facets(client)["facets"]
    }


def test_facets_count_each_value(filled: PageView) -> None:
    found = offered(filled)
    assert found["folder"] == {"docs/notes": 2}
    assert found["tags"] == {"budget": 2, "travel": 1}
    assert found["date"] == {"2024": 1, "2025": 1}
    assert "access" not in found
    assert "title" not in found


def test_every_offered_value_keeps_as_many_documents_as_it_says(filled: PageView) -> None:
    for facet in filled.facets()["facets"]:
        for value in facet["values"]:
            where = filled.filter_of(value["where"])
            assert filled.documents(where=where)["found"] == value["count"], value


def test_facets_of_a_caller_count_only_what_it_sees(filled: PageView) -> None:
    filled.workspace._access = Access(
        (), (KeyEntry(key_digest("boss"), None), KeyEntry(b"1" * 32, None))
    )
    owner = client_of_digest(key_digest("boss"))
    assert offered(filled, owner)["tags"] == {"budget": 2, "travel": 1}
    assert offered(filled, "key:of nobody")["tags"] == {"budget": 1, "travel": 1}


def test_choice_that_all_documents_meet_is_not_offered() -> None:
    infos = [DocumentInfo(n, f"/d/{n}.md", "", "markdown", 1, fields={"team": "a"}) for n in (1, 2)]
    assert facets_of(infos, lambda path: path.lstrip("/")) == []


def test_answer_under_a_filter_comes_from_matching_documents_only(
    filled: PageView, last_event: Any
) -> None:
    where = filled.filter_of({"all": [{"field": "date", "op": ">=", "value": "2025"}]})
    done = last_event(lambda: filled.ask("What is the budget for pay?", where=where))
    places = {source["path"] for source in done["citations"]}
    assert places == {"docs/notes/pay.md"}
    assert done["searched"]["files"] == 1


def test_paths_in_a_filter_are_as_the_page_names_them() -> None:
    where = read_filter(
        {"not": {"field": "path", "op": "under", "value": "docs/a"}}, Path("/x/docs")
    )
    assert where is not None
    assert not where.matches({"path": "/x/docs/a/b.md"})
    assert where.matches({"path": "/x/docs/b.md"})


@pytest.mark.parametrize(
    "wrong",
    [{"field": "format"}, {"all": "x"}, {"field": "a b", "op": "=", "value": 1}, {"any": [7]}],
)
def test_wrong_filter_is_a_plain_400(wrong: Any, workspace: Any, serve: Any) -> None:
    url = serve(workspace).url
    asked = httpx.post(url + "/api/ask", json={"question": "q", "where": wrong})
    listed = httpx.get(url + "/api/documents", params={"where": json.dumps(wrong)})
    for response in (asked, listed):
        assert response.status_code == 400
        error = response.json()["error"]
        assert all((error["message"], error["hint"]))
    assert workspace.asked == []


def test_names_that_nobody_sees_are_an_error_with_paths_as_the_page_names_them(
    filled: PageView,
) -> None:
    for asked, there in (
        ("formt = pdf", "did you mean 'format'?"),
        ("path = docs/pay.md", "did you mean 'docs/notes/pay.md'?"),
    ):
        with pytest.raises(InputError) as error:
            filled.filter_of(asked)
        assert there in (error.value.hint or "")


def test_what_a_caller_may_not_see_is_not_named_as_what_exists(filled: PageView) -> None:
    filled.workspace._access = Access((), (KeyEntry(b"1" * 32, None),))
    for path in ("docs/notes/pay.md", "docs/nowhere.md"):
        with pytest.raises(InputError) as error:
            filled.filter_of(f"path = {path}", "key:of nobody")
        assert "pay" not in (error.value.hint or "")


@pytest.mark.parametrize("text", ["{", "[" * 5000, '{"a": NaN}'])
def test_filter_that_is_no_json_is_a_400(text: str, workspace: Any, serve: Any) -> None:
    response = httpx.get(serve(workspace).url + "/api/documents", params={"where": text})
    assert response.status_code == 400


def test_unreadable_filter_names_the_field() -> None:
    with pytest.raises(InputError, match="no field name"):
        read_filter({"field": "a b", "op": "=", "value": 1}, Path("/x"))


@pytest.mark.browser
def test_chosen_filter_goes_with_the_question_and_a_chip_takes_it_away(
    workspace: Any, open_page: Any, ask: Any, shot: Any
) -> None:
    condition = {"field": "path", "op": "=", "value": "page.md"}
    other = {"field": "format", "op": "=", "value": "pdf"}
    workspace.facet_list = [
        {
            "field": "file",
            "title": "File",
            "more": 3,
            "values": [{"value": "<b>page</b>.md", "count": 12, "where": condition}],
        },
        {
            "field": "format",
            "title": "Format",
            "more": 0,
            "values": [
                {"value": "pdf", "count": 4, "where": other},
                {"value": "markdown", "count": 1200, "where": {**other, "value": "markdown"}},
            ],
        },
    ]
    workspace.scripts = [workspace.script("It is so.")]
    page = open_page(workspace)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("<b>page</b>.md").check()
    shot(page, "filters")
    ask(page, "What is so?")
    page.locator(".meta").wait_for()
    assert workspace.filters[-1].to_json() == {"all": [{"any": [condition]}]}
    expect(page.locator(".within")).to_have_text("Only in files with File: <b>page</b>.md")
    page.get_by_role("button", name="All sources").click()
    expect(page.locator(".file .name")).to_have_text(["page.md"])

    page.reload()
    chip = page.get_by_role("button", name="Remove the filter File: <b>page</b>.md")
    expect(page.locator(".within")).to_be_visible()
    chip.click()
    expect(page.get_by_role("button", name="Filter", exact=True)).to_be_focused()
    ask(page, "And now?")
    page.locator(".turn:nth-child(2) .meta").wait_for()
    assert workspace.filters[-1] is None
