"""Search and reading of sources as tools, over whatever index the caller passes in.

Covers the two tools and their bounds: passages with ids, titles and texts, then a window of the
source that one of them is from. Does not cover the search itself: agents do not know the index.
What sources hold was written by others.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from lmstack.agents.tools.function import FunctionTool, Threads
from lmstack.agents.tools.results import one_line, plain
from lmstack.agents.tools.tool import ToolResult
from lmstack.core import InputError, NotFoundError, shown

__all__ = ["FoundPassage", "OpenSource", "Search", "SourceText", "open_source_tool", "search_tool"]

MAX_PASSAGES = 20
# A small model that is held to the schema would go on writing.
MAX_QUERY_CHARS = 300
MAX_PASSAGE_CHARS = 1_500
WINDOW_CHARS = 8_000


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """``id``: of the source that it is from, as `open_source_tool` takes it. ``start``: the
    character of the source that its text begins at."""

    id: str
    title: str
    text: str
    start: int = 0


@dataclass(frozen=True, slots=True)
class SourceText:
    """The whole text of a source."""

    id: str
    title: str
    text: str


# A query and how many passages are wanted; the best first.
Search = Callable[[str, int], "Sequence[FoundPassage] | Awaitable[Sequence[FoundPassage]]"]
# None where there is no source of that id.
OpenSource = Callable[[str], "SourceText | Awaitable[SourceText | None] | None"]


def search_tool(
    search: Search, *, name: str = "search", about: str = "the indexed documents"
) -> FunctionTool:
    """A tool that asks ``search``, a function that may be async. ``about``: what is searched, for
    the description."""
    threads = Threads()

    async def find(
        query: Annotated[str, Field(max_length=MAX_QUERY_CHARS)],
        count: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = 5,
    ) -> ToolResult:
        if not query.strip():
            raise InputError("the query is empty", hint="write what to look for")
        found = await _called(search, threads, name, query, count)
        return _passages(list(found)[:count], query)

    find.__doc__ = f"""Search {about} for passages.

        Args:
            query: What to look for, in plain words.
            count: How many passages to return.
        """
    return FunctionTool.of(find, name=name, is_untrusted=True)


def open_source_tool(open_source: OpenSource, *, name: str = "open_source") -> FunctionTool:
    """A tool that reads a window of a source by its id, which ``open_source`` finds; it may be
    async."""
    threads = Threads()

    async def read(id: str, offset: Annotated[int, Field(ge=0)] = 0) -> ToolResult:
        """Read a source that a search found. A long source comes in parts.

        Args:
            id: The id of the source, as the search shows it.
            offset: The character to begin at; the end of a part names where the next one begins.
        """
        source = await _called(open_source, threads, name, id)
        if source is None:
            problem = f"there is no source with the id {shown(id)}"
            raise NotFoundError(problem, hint="use an id that a search returned")
        return _window(source, offset)

    return FunctionTool.of(read, name=name, is_untrusted=True)


async def _called(function: Callable[..., Any], threads: Threads, name: str, *args: Any) -> Any:
    """What ``function`` returns: in a thread where it is not async, because it may be slow."""
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    outcome = await threads.run(lambda: function(*args), name)
    if outcome.error is not None:
        raise outcome.error
    return await outcome.value if inspect.isawaitable(outcome.value) else outcome.value


def _passages(passages: Sequence[FoundPassage], query: str) -> ToolResult:
    if not passages:
        return ToolResult(f"Nothing was found for {shown(query)}.", data=[])
    shown_passages = [
        f"[{number}] {one_line(each.title)} (id: {one_line(each.id)})\n{_cut(each.text)}"
        for number, each in enumerate(passages, 1)
    ]
    data = [
        {"id": each.id, "title": each.title, "text": each.text, "start": each.start}
        for each in passages
    ]
    return ToolResult("\n\n".join(shown_passages), data=data)


def _cut(text: str) -> str:
    text = plain(text).strip()
    return text if len(text) <= MAX_PASSAGE_CHARS else f"{text[:MAX_PASSAGE_CHARS]} [...]"


def _window(source: SourceText, offset: int) -> ToolResult:
    size = len(source.text)
    end = min(offset + WINDOW_CHARS, size)
    title = f"{one_line(source.title)} (id: {one_line(source.id)})"
    if offset >= size:
        return ToolResult(f"{title}\n[it ends at character {size}]")
    more = f"; go on with offset {end}" if end < size else ", the end"
    note = f"\n[characters {offset} to {end} of {size}{more}]" if offset or end < size else ""
    data = {"id": source.id, "start": offset, "end": end, "size": size}
    return ToolResult(f"{title}\n{source.text[offset:end]}{note}", data=data)
