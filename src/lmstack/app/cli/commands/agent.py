"""`lmstack agent`: give a model tools and a task, and look at what it did."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lmstack.agents.toolkit import ChosenTools, tools_of
from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command, group, option
from lmstack.app.cli.commands._options import (
    Docs,
    IndexFolder,
    ModelName,
    Weights,
    check_words,
    say_if_remote,
)
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.app.wiring.agents import index_tools, page_of, pins_path, run_store
from lmstack.core import ChatModel, InputError, close_model
from lmstack.core.files import write_atomic

if TYPE_CHECKING:
    from lmstack.agents import Agent, Approver, Run, RunStore
    from lmstack.rag import Index

__all__ = ["chat", "replay", "run", "show"]

Protocol = Literal["tools", "react"]
Files = Annotated[
    list[Path] | None,
    option("--files DIR: A folder whose files may be read; repeat it."),
]
Hosts = Annotated[
    list[str] | None,
    option("--host NAME: A host that may be asked by HTTP; repeat it."),
]
Python = Annotated[bool, option("--python: Python code, in a sandbox without network.")]
Mcp = Annotated[
    list[str] | None,
    option(
        "--mcp NAME=COMMAND: The tools of an MCP server, started by a command or reached at a "
        "URL; repeat it. What it offers is shown to you first, and again when it changes."
    ),
]
Allow = Annotated[
    list[str] | None,
    option(
        "--allow TOOL: Do not ask before calls of this dangerous tool; repeat it. You are asked"
        " all the same where its arguments hold text that others wrote."
    ),
]
Ask = Annotated[
    list[str] | None,
    option("--ask TOOL: Ask before every call of this tool; repeat it."),
]
Instructions = Annotated[str, option("--instructions TEXT: What the agent is told beforehand.")]
How = Annotated[
    Protocol | None,
    option(
        "--protocol: tools, or react: thoughts and actions as text, for any model. [default: "
        "what the model does better by, as far as known, else tools]"
    ),
]
MustCall = Annotated[
    bool | None,
    option(
        "--must-call/--no-must-call: Whether the first turn has to call a tool, which small "
        "models need. [default: that of a task for smollm2-135m-instruct as the default has to]"
    ),
]
Steps = Annotated[int, option("--steps N: Turns of the model, at most.")]
Store = Annotated[
    Path | None,
    option("--store FILE: Where runs are kept. [default: your own]"),
]
_AGO = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


group(
    "agent",
    "run chat show replay",
    """
    Give a model tools and a task.

    Every step of a run is kept before the next begins: it can be looked at, and goes on where it
    stopped.

    lmstack agent run "How much is 17 % of 2,340?"
    lmstack agent show
    """,
)


@command(
    "agent run",
    """
    TASK: What is to be done.
    --tokens N: At most so many.
    --seconds S: Of models and tools, at most.
    --resume RUN: Go on with a run, with the same tools as before.
    --page PORT: Show the run at http://127.0.0.1:PORT/agents while it goes on, and ask there before
        dangerous calls. The page wants the key in the address that is printed.

    lmstack agent run "What is the widest table in these documents?" --docs docs
    lmstack agent run "Sum the third column of prices.csv." --files . --python
    lmstack agent run --resume 3f2a91c0 --files . --python
    """,
)
def run(
    out: Output,
    task: str | None = None,
    docs: Docs = None,
    index: IndexFolder = None,
    files: Files = None,
    hosts: Hosts = None,
    python: Python = False,
    mcp: Mcp = None,
    ask: Ask = None,
    allow: Allow = None,
    instructions: Instructions = "",
    protocol: How = None,
    must_call: MustCall = None,
    steps: Steps = 20,
    tokens: int | None = None,
    seconds: float | None = None,
    resume: str | None = None,
    page: int | None = None,
    store: Store = None,
    model: ModelName = None,
    weights: Weights = None,
) -> None:
    """Let an agent do a task with tools.

    It has a calculator, and what the options give it: the documents of --docs or --index, the
    files of folders, hosts, Python, MCP servers. That is fixed before it begins, and nothing that
    it reads can widen it. You are asked before dangerous calls; where nobody is at a terminal, the
    run waits, and --resume goes on with it."""
    if (task is None) == (resume is None):
        raise InputError(
            "an agent needs a task" if task is None else "a run that goes on has its task already",
            hint='lmstack agent run "TASK", or lmstack agent run --resume RUN',
            param="task",
        )
    if task is not None:
        check_words(task, "task", "lmstack agent run")
    kept = run_store(store)
    given = _Given(ChosenTools(files or (), hosts or (), python, mcp or ()), ask or (), allow or ())
    spec: dict[str, Any] = {"instructions": instructions}
    limits = {"steps": steps, "tokens": tokens, "seconds": seconds}
    say_if_remote(out, model)
    with _opened(out, docs, index) as opened:
        chat_model = wiring.generator(model, weights, may_draw=True)
        try:
            spec["protocol"] = protocol or _usual_protocol(chat_model)
            is_small = model is None and not chat_model.info.reacts
            spec["must_call"] = is_small if must_call is None else must_call
            done = asyncio.run(
                _run(out, chat_model, opened, given, spec, limits, task, kept, resume, page)
            )
        finally:
            close_model(chat_model)
    _report(out, done, task)


def _usual_protocol(model: ChatModel) -> Protocol:
    return "react" if model.info.reacts else "tools"


@command("agent chat", "lmstack agent chat --docs docs", returns=False)
def chat(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    files: Files = None,
    hosts: Hosts = None,
    python: Python = False,
    mcp: Mcp = None,
    ask: Ask = None,
    allow: Allow = None,
    instructions: Instructions = "",
    protocol: How = None,
    must_call: MustCall = None,
    steps: Steps = 20,
    store: Store = None,
    model: ModelName = None,
    weights: Weights = None,
) -> None:
    """Talk with an agent: each line is a task, and it remembers the ones before.

    Ends with an empty line, or Ctrl-D."""
    kept = run_store(store)
    given = _Given(ChosenTools(files or (), hosts or (), python, mcp or ()), ask or (), allow or ())
    spec: dict[str, Any] = {"instructions": instructions}
    spec["must_call"] = bool(must_call)
    say_if_remote(out, model)
    with _opened(out, docs, index) as opened:
        chat_model = wiring.generator(model, weights, may_draw=True)
        try:
            spec["protocol"] = protocol or _usual_protocol(chat_model)
            asyncio.run(_chat(out, chat_model, opened, given, spec, {"steps": steps}, kept))
        finally:
            close_model(chat_model)


@command(
    "agent show",
    """
    RUN: The id of a run, or its beginning. Without it, a list.
    --limit N: Runs of the list.
    --html FILE: Write the run's timeline as one HTML page.

    lmstack agent show
    lmstack agent show 3f2a91c0 --json
    """,
)
def show(
    out: Output,
    run_id: str | None = None,
    store: Store = None,
    limit: int = 20,
    html: Path | None = None,
) -> None:
    """List runs, or show the steps of one: texts, calls, results, tokens and seconds."""
    from lmstack.agents import run_to_json, run_to_text

    kept = run_store(store)
    if run_id is None:
        _list(out, kept, limit)
        return
    found = kept.load(_whole_id(kept, run_id))
    if html is not None:
        from lmstack.app.page.agents import run_page

        write_atomic(html, run_page(found).encode())
        out.note(f"written to {html}")
    elif out.as_json:
        out.result(run_to_json(found))
    else:
        out.write(run_to_text(found))


@command(
    "agent replay",
    """
    RUN: The id of a run, or its beginning.

    lmstack agent replay 3f2a91c0
    """,
)
def replay(out: Output, run_id: str, store: Store = None) -> None:
    """Go through a run again, without a model and without tools.

    Says where what is stored is not what would come next now, as after an update or a change of
    its file. Exit code 1 if it differs anywhere."""
    from lmstack.agents import replay as replayed

    kept = run_store(store)
    found = kept.load(_whole_id(kept, run_id))
    differences = replayed(found)
    if out.as_json:
        listed = [{"run": d.run_id, "step": d.number, "what": d.what} for d in differences]
        out.result({"run": found.id, "steps": len(found.steps), "differences": listed})
    else:
        out.lines([printable(str(each), one_line=True) for each in differences])
        out.line(f"{found.id}: {len(found.steps)} steps, {len(differences)} differ")
    if differences:
        raise typer.Exit(1)


class _Given:
    """The tools of an agent, and which of them need a person."""

    def __init__(self, tools: ChosenTools, ask: Any, allow: Any) -> None:
        self.tools, self.ask, self.allow = tools, frozenset(ask), frozenset(allow)


@contextmanager
def _opened(out: Output, docs: Path | None, index: Any) -> Iterator[Index | None]:
    if docs is None and index is None:
        yield None
        return
    with ExitStack() as stack:
        yield stack.enter_context(indexing.open_source(out, docs, index, None))


async def _agent(
    out: Output,
    stack: AsyncExitStack,
    model: Any,
    index: Index | None,
    given: _Given,
    spec: dict[str, Any],
    limits: dict[str, Any],
) -> tuple[Agent, Any]:
    from lmstack.agents import Agent, Budget, Rights
    from lmstack.app.cli.commands._agent_view import Person

    person = Person(out)
    searching = index_tools(index, out.note)
    opening = tools_of(given.tools, searching, pins=pins_path(), approve=person.approve)
    tools = await stack.enter_async_context(opening)
    rights = Rights(dangerous=given.ask, approved=given.allow)
    return Agent(model, tools=tools, rights=rights, budget=Budget(**limits), **spec), person


async def _run(
    out: Output,
    model: Any,
    index: Index | None,
    given: _Given,
    spec: dict[str, Any],
    limits: dict[str, Any],
    task: str | None,
    store: RunStore,
    resume: str | None,
    page: int | None,
) -> Run:
    from lmstack.agents import Event, Started
    from lmstack.app.cli.commands._agent_view import shown_event

    def tell(event: Event) -> None:
        if isinstance(event, Started) and len(event.agents) == 1:
            again = _resuming(out, event.run_id, task)
            out.interrupted = (f"every finished step of {event.run_id} is kept", again)
        shown_event(out, event)

    async with AsyncExitStack() as stack:
        agent, person = await _agent(out, stack, model, index, given, spec, limits)
        approver: Approver = person
        if page is not None:
            shown = page_of(store, page, wiring.audit_path())
            approver, address = await stack.enter_async_context(shown)
            out.note(f"the run is at {address}")
        if resume is not None:
            whole = _whole_id(store, resume)
            return await agent.resume(whole, approver=approver, store=store, on_event=tell)
        assert task is not None, "checked before"
        return await agent.run(task, approver=approver, store=store, on_event=tell)


def _resuming(out: Output, run_id: str, task: str | None) -> str:
    """The command that goes on: as it was typed, without the task."""
    words = [word for word in out.typed if word != task]
    if "--resume" in words:
        return shlex.join(["lmstack", *words])
    return shlex.join(["lmstack", *words, "--resume", run_id])


async def _chat(
    out: Output,
    model: Any,
    index: Index | None,
    given: _Given,
    spec: dict[str, Any],
    limits: dict[str, Any],
    store: RunStore,
) -> None:
    from lmstack.app.cli.commands._agent_view import shown_event

    async with AsyncExitStack() as stack:
        agent, person = await _agent(out, stack, model, index, given, spec, limits)
        before: Run | None = None
        while True:
            if sys.stdin.isatty():
                print("> ", end="", file=sys.stderr, flush=True)
            task = (await asyncio.to_thread(sys.stdin.readline)).strip()
            if not task:
                return
            done = await agent.run(
                task,
                approver=person,
                store=store,
                after=before,
                on_event=lambda event: shown_event(out, event),
            )
            before = done if done.end == "answered" else before
            out.line(printable(done.answer or done.reason or str(done.end)))


def _report(out: Output, done: Run, task: str | None) -> None:
    from lmstack.agents import run_to_json

    out.interrupted = None
    if out.as_json:
        out.result(run_to_json(done))
    elif done.answer:
        out.line(printable(done.answer))
    if done.end == "waiting":
        out.note(f"waiting for a person: {_resuming(out, done.id, task)}")
    elif done.end != "answered":
        out.note(f"{done.end}: {printable(done.reason, one_line=True)}")
    spent = done.spent
    out.note(
        f"{done.id[:8]}: {spent.steps} turns, {spent.usage.total_tokens:,} tokens,"
        f" {done.seconds:.1f} s; lmstack agent show {done.id[:8]}"
    )
    if done.end not in ("answered", "waiting"):
        raise typer.Exit(1)


def _list(out: Output, store: RunStore, limit: int) -> None:
    found = store.latest(limit=limit)
    if out.as_json:
        names = ("id", "agent", "task", "end", "created", "updated", "turns", "tokens", "money")
        out.result([{name: getattr(each, name) for name in names} for each in found])
        return
    if not found:
        out.line("no runs yet; try: lmstack agent run TASK")
        return
    rows = [("RUN", "END", "TURNS", "TOKENS", "AGO", "TASK")]
    for each in found:
        task = printable(each.task, one_line=True)
        rows.append(
            (
                each.id[:8],
                each.end or "stopped",
                str(each.turns),
                f"{each.tokens:,}",
                _ago(time.time() - each.updated),
                task if len(task) <= 60 else f"{task[:60]} ...",
            )
        )
    out.lines(columns(rows))


def _ago(seconds: float) -> str:
    size, unit = next(each for each in _AGO if seconds >= each[0] or each[0] == 1)
    return f"{max(0, int(seconds / size))} {unit}"


def _whole_id(store: RunStore, text: str) -> str:
    """The id that begins with ``text``; as it is where there is none or more than one."""
    fits = [each.id for each in store.latest(limit=10_000, nested=True) if each.id.startswith(text)]
    if len(fits) > 1 and text not in fits:
        raise InputError(
            f"{len(fits)} runs begin with {text}", hint="write more of the id", param="run"
        )
    return fits[0] if len(fits) == 1 else text
