"""The tools that search an index and open its sources, over functions that stand for one."""

from __future__ import annotations

import threading

from lmstack.agents.tools import (
    FoundPassage,
    SourceText,
    ToolContext,
    open_source_tool,
    search_tool,
)

NONE = ToolContext()
FOUND = [
    FoundPassage("doc-1", "First\nnote", "Paris is the capital.\x1b[2J", 10),
    FoundPassage("doc-2", "Second", "x" * 5000),
]


def search(query: str, count: int) -> list[FoundPassage]:
    return FOUND if "capital" in query else []


async def search_async(query: str, count: int) -> list[FoundPassage]:
    return search(query, count)


def open_source(id: str) -> SourceText | None:
    return SourceText(id, "First", "0123456789" * 2000) if id == "doc-1" else None


async def test_passages_come_with_ids_titles_and_bounded_texts() -> None:
    for function in (search, search_async):
        result = await search_tool(function).call({"query": "the capital"}, NONE)
        assert result.text.startswith(
            "[1] First note (id: doc-1)\nParis is the capital.[2J\n\n[2] "
        )
        assert result.text.endswith("x [...]")
        assert len(result.text) < 2000
        assert [each["id"] for each in result.data] == ["doc-1", "doc-2"]
        assert result.data[0]["start"] == 10


async def test_no_more_passages_come_than_were_asked_for() -> None:
    made = search_tool(search)
    assert len((await made.call({"query": "capital", "count": 1}, NONE)).data) == 1
    assert (await made.call({"query": "capital", "count": 99}, NONE)).is_error


async def test_nothing_found_and_nothing_asked_are_said() -> None:
    made = search_tool(search)
    found = await made.call({"query": "weather"}, NONE)
    assert (found.text, found.is_error) == ("Nothing was found for 'weather'.", False)
    assert found.data == []
    assert (await made.call({"query": "  "}, NONE)).is_error


async def test_a_source_is_read_in_windows_that_join() -> None:
    made = open_source_tool(open_source)
    text, offset = "", 0
    while True:
        result = await made.call({"id": "doc-1", "offset": offset}, NONE)
        body = result.text.split("\n")[1]
        text += body
        if result.data["end"] == result.data["size"]:
            break
        assert f"go on with offset {result.data['end']}" in result.text
        offset = result.data["end"]
    assert text == "0123456789" * 2000
    assert result.text.endswith("\n[characters 16000 to 20000 of 20000, the end]")
    whole = open_source_tool(lambda id: SourceText(id, "Short", "0123456789"))
    assert (await whole.call({"id": "x"}, NONE)).text == "Short (id: x)\n0123456789"
    assert (
        "ends at character 20000" in (await made.call({"id": "doc-1", "offset": 30_000}, NONE)).text
    )


async def test_an_id_that_is_not_there_is_an_error_that_says_where_ids_are_from() -> None:
    result = await open_source_tool(open_source).call({"id": "doc-9"}, NONE)
    assert result.is_error
    assert "use an id that a search returned" in result.text


async def test_errors_of_the_index_are_observations() -> None:
    def broken(query: str, count: int) -> list[FoundPassage]:
        raise RuntimeError("the index is gone")

    result = await search_tool(broken).call({"query": "a"}, NONE)
    assert (result.is_error, result.text) == (True, "RuntimeError: the index is gone")


async def test_a_search_that_blocks_runs_in_a_thread() -> None:
    seen: list[bool] = []

    def where(query: str, count: int) -> list[FoundPassage]:
        seen.append(threading.current_thread() is threading.main_thread())
        return []

    await search_tool(where).call({"query": "a"}, NONE)
    assert seen == [False]


def test_both_are_untrusted_and_may_have_names_of_their_own() -> None:
    made = search_tool(search, name="search_manual", about="the manual")
    assert made.tool.name == "search_manual"
    assert made.tool.description == "Search the manual for passages."
    assert made.tool.parameters["properties"]["query"]["description"]
    assert made.is_untrusted
    assert open_source_tool(open_source).is_untrusted
