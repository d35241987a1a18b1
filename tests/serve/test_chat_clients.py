"""LangChain, instructor and llm against a server of this package, as their documentation shows
them, over a model that writes its calls in a fenced block.

They do not go together with the other packages that the tests need (instructor wants another
jiter than openai), so they have an environment of their own, made once and kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.written_model import WrittenModel

from lmstack.registry import Store
from lmstack.serve import create_app

pytestmark = pytest.mark.long

PACKAGES = ("langchain-openai==1.7.4", "instructor==1.17.0", "llm==0.36")
PROGRAMS = Path(__file__).parent / "client_programs"
QUESTION = "What is 13 times 21?"
FENCED = '```json\n{"name": "multiply", "arguments": {"a": 13, "b": 21}}\n```'
CITY = '{"name": "Paris", "country": "France"}'
CALL = f'{{"name": "City", "arguments": {CITY}}}'
ANSWER = "It is 273."
Client = Callable[[WrittenModel, str, str, str], Any]


@pytest.fixture(scope="module")
def client_python(weights_store: Store) -> Path:
    """The interpreter of the environment, which takes half a minute to make."""
    name = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    folder = weights_store.root / f"clients-{name}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        done.touch()
    return python


@pytest.fixture
def ask(serve, client_python: Path, tmp_path: Path) -> Any:
    """Runs a program of `PROGRAMS` against a server of a model; what it prints."""

    async def asked(model: WrittenModel, client: str, question: str, way: str) -> Any:
        # No key, proxy or setting of the machine, and no trace sent anywhere.
        given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        given |= {"LLM_USER_PATH": str(tmp_path), "LANGSMITH_TRACING": "false"}
        async with serve(create_app(models={"m": model})) as url:
            command = [client_python, PROGRAMS / f"with_{client}.py", url, question, way]
            done = await asyncio.to_thread(
                subprocess.run, command, env=given, capture_output=True, text=True, timeout=120
            )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return asked


def check_loop(model: WrittenModel) -> None:
    """The call was made, and its result given back for it."""
    first, *_, last = model.requests
    assert [tool.name for tool in first.tools] == ["multiply"]
    [[call]] = [m.tool_calls for m in last.messages if m.tool_calls]
    [result] = [m for m in last.messages if m.role == "tool"]
    assert (call.name, json.loads(call.arguments)) == ("multiply", {"a": 13, "b": 21})
    assert (result.tool_call_id, result.content) == (call.id, "273")


@pytest.mark.parametrize(
    ("client", "way"),
    [
        ("langchain", "chat"),
        ("langchain", "chat-streamed"),
        ("langchain", "responses"),
        ("langchain", "responses-streamed"),
        ("llm", "whole"),
        ("llm", "streamed"),
    ],
)
async def test_a_client_runs_a_tool_that_is_called_in_a_fenced_block(ask, client, way):
    model = WrittenModel(FENCED, ANSWER)
    assert await ask(model, client, QUESTION, way) == ANSWER
    check_loop(model)


# A real model is held to the schema, or to the call that is required.
@pytest.mark.parametrize(
    ("client", "way", "written"),
    [
        ("langchain", "json_schema", CITY),
        ("langchain", "function_calling", CALL),
        ("instructor", "TOOLS", f"```json\n{CALL}\n```"),
        ("instructor", "PARALLEL_TOOLS", f"```json\n{CALL}\n```"),
        ("instructor", "JSON_SCHEMA", CITY),
        ("instructor", "MD_JSON", f"```json\n{CITY}\n```"),
    ],
)
async def test_a_client_reads_a_class(ask, client, way, written):
    found = await ask(WrittenModel(written), client, "The capital of France?", way)
    assert found == json.loads(CITY)
