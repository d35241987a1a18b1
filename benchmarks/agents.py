"""Agents of small models on tasks with known answers: lmstack beside pydantic-ai and smolagents.

    make bench-agents [QUICK=1]
    python benchmarks/agents.py --model gemma3-270m

All speak to one server on this machine over /v1/chat/completions, with the same model, tools, tasks
(`agent_tasks.py`), greedy, at most `TURNS` turns: one call, two calls, and a record out of a
sentence. lmstack's own agents also made to call in their first turn; by ReAct, held to its grammar
(in the process of the model) and free; and against a server that holds arguments to nothing (the
same text is then read as calls where it can be). Rates have 95 % intervals (Wilson), and
differences to lmstack's agent McNemar's exact p. Every side is reported as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import openai
from agent_tasks import RECORD, Task, add, is_right, multiply, price_of, tasks
from local_server import served
from machine import machine
from recording import add_options, result_file

from lmstack.agents import Agent, Budget
from lmstack.agents.tools import FunctionTool
from lmstack.core import (
    ChatModel,
    LmstackError,
    Message,
    Request,
    SamplingParams,
    Tool,
    complete,
)
from lmstack.evals.statistics import mcnemar, wilson
from lmstack.remote import OpenAIModel
from lmstack.serve import LocalModel
from lmstack.serve.local import load_weights
from lmstack.serve.tool_calls import RequestCalls
from lmstack.text import ChatTemplate

MODEL = "smollm2-135m-instruct"
EACH, TURNS, MAX_TOKENS, AT_ONCE = 34, 4, 120, 8
FUNCTIONS = (add, multiply, price_of)
GEMMA_TURNS = """{{ bos_token }}{% for m in messages -%}
<start_of_turn>{{ "model" if m.role == "assistant" else "user" }}
{{ m.content }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
INSTRUCTIONS = "Use the tools. Answer with the number."
KINDS = ("single", "two")
Ask = Callable[[Task], Awaitable[Any]]


@contextlib.contextmanager
def nothing_held() -> Iterator[None]:
    """Calls are read as ever, and nothing holds the model to them."""
    with mock.patch.object(RequestCalls, "grammar", None):
        yield


def of_lmstack(model: ChatModel, **settings: Any) -> Ask:
    agent = Agent(
        model,
        tools=[FunctionTool.of(function) for function in FUNCTIONS],
        instructions=INSTRUCTIONS,
        budget=Budget(steps=TURNS),
        sampling=SamplingParams(temperature=0, max_tokens=MAX_TOKENS),
        **settings,
    )

    async def ask(task: Task) -> Any:
        return (await agent.run(task.text)).answer

    return ask


def of_pydantic_ai(url: str) -> Ask:
    from pydantic_ai import Agent as Other
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.usage import UsageLimits

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))
    settings: Any = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
    agent = Other(model, instructions=INSTRUCTIONS, model_settings=settings)
    for function in FUNCTIONS:
        agent.tool_plain(function)

    async def ask(task: Task) -> Any:
        limits = UsageLimits(request_limit=TURNS)
        return (await agent.run(task.text, usage_limits=limits)).output

    return ask


def of_smolagents(url: str) -> Ask:
    from smolagents import OpenAIServerModel, ToolCallingAgent, tool

    model = OpenAIServerModel(
        "m", api_base=f"{url}/v1", api_key="none", temperature=0.0, max_tokens=MAX_TOKENS
    )

    async def ask(task: Task) -> Any:
        agent = ToolCallingAgent(
            tools=[tool(function) for function in FUNCTIONS],
            model=model,
            instructions=INSTRUCTIONS,
            max_steps=TURNS,
            verbosity_level=0,
        )
        # Threads of their own: the server's work runs in those of the loop.
        return await asyncio.get_running_loop().run_in_executor(threads, agent.run, task.text)

    threads = ThreadPoolExecutor(AT_ONCE)
    return ask


def of_extraction(url: str) -> Ask:
    model = OpenAIModel("m", base_url=f"{url}/v1")
    tool = Tool("record", "Keep what a sentence says about a person.", RECORD)

    async def ask(task: Task) -> Any:
        request = Request(
            messages=(Message("user", f"Keep this: {task.text}"),),
            tools=(tool,),
            tool_choice="record",
            sampling=SamplingParams(temperature=0, max_tokens=MAX_TOKENS),
        )
        done = await complete(model, request)
        return json.loads(done.tool_calls[0].arguments) if done.tool_calls else None

    return ask


async def measured(name: str, ask: Ask, asked: Sequence[Task]) -> list[bool]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(task: Task) -> bool:
        async with places:
            try:
                return is_right(task, await ask(task))
            except (LmstackError, ValueError):
                return False
            except Exception as error:
                # A framework that gives up has not answered.
                failed[type(error).__name__] = failed.get(type(error).__name__, 0) + 1
                return False

    failed: dict[str, int] = {}
    start = time.monotonic()
    right = await asyncio.gather(*(one(task) for task in asked))
    print(f"{name}: {sum(right)} of {len(right)}, {time.monotonic() - start:.0f} s {failed or ''}")
    return list(right)


async def run(model: LocalModel, each: int) -> dict[str, dict[str, list[bool]]]:
    """For each side and kind of task, whether each was right."""
    made = tasks(each)
    by_kind = {
        kind: [task for task in made if task.kind == kind] for kind in (*KINDS, "extraction")
    }
    found: dict[str, dict[str, list[bool]]] = {}

    async def all_of(side: str, ask: Ask, kinds: Sequence[str]) -> None:
        for kind in kinds:
            right = await measured(f"{side}, {kind}", ask, by_kind[kind])
            found.setdefault(side, {})[kind] = right

    async with served(model, "m") as url:
        remote = OpenAIModel("m", base_url=f"{url}/v1")
        await all_of("lmstack", of_lmstack(remote), KINDS)
        await all_of("lmstack", of_extraction(url), ["extraction"])
        await all_of("pydantic-ai", of_pydantic_ai(url), KINDS)
        await all_of("lmstack, made to call", of_lmstack(remote, must_call=True), KINDS)
        react = {"protocol": "react"}
        await all_of("lmstack, ReAct held", of_lmstack(model, **react), KINDS)
        await all_of("lmstack, ReAct free", of_lmstack(remote, **react, constrained=False), KINDS)
        with nothing_held():
            free = of_lmstack(remote, must_call=True)
            await all_of("lmstack, made to call, nothing held", free, KINDS)
            await all_of("lmstack, nothing held", of_extraction(url), ["extraction"])
        await all_of("smolagents", of_smolagents(url), KINDS)
    return found


def summary(found: dict[str, dict[str, list[bool]]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for side, kinds in found.items():
        for kind, right in kinds.items():
            row: dict[str, Any] = {
                "tasks": len(right),
                "right": wilson(sum(right), len(right)).to_json(),
            }
            if side != "lmstack":
                pairs = list(zip(right, found["lmstack"][kind], strict=True))
                row["p"] = mcnemar(pairs.count((False, True)), pairs.count((True, False)))
            result.setdefault(side, {})[kind] = row
    return result


def opened(name: str) -> LocalModel:
    """The model; a base model, whose file brings no chat template, with that of its family."""
    loaded = load_weights(name, None, None)
    if loaded.template is None and name.startswith("gemma3"):
        loaded = dataclasses.replace(loaded, template=ChatTemplate(GEMMA_TURNS, "<bos>"))
    return LocalModel(loaded)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--each", type=int, default=EACH, help="tasks of each kind")
    add_options(parser, "agents")
    args = parser.parse_args()
    file: pathlib.Path = result_file(args, "agents")
    os.environ.setdefault("OPENAI_API_KEY", "none")  # the server takes any
    with opened(args.model) as model:
        found = asyncio.run(run(model, 4 if args.quick else args.each))
    results = json.loads(file.read_text()) if file.exists() else {}
    results[args.model] = {"machine": machine(), "sides": summary(found)}
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
