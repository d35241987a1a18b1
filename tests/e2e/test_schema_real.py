"""schemathesis against everything `lmstack up` serves, with the default models and over a socket.

Bodies that fit the schema and bodies that do not: no 5xx, every answer as documented, and no
block of the engine in use afterwards. Takes minutes, so it is not part of an ordinary run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lmstack.registry import ModelFolder
from lmstack.serve.http.server import bind

pytestmark = [pytest.mark.weights, pytest.mark.long]

LETTERS = "# Letters\n\nLetters are kept for ten years.\n"
# Both chat models in turn: the documents and the language model itself.
NAMES = {
    "/v1/chat/completions": ("docs", "smollm2-135m-instruct"),
    "/v1/completions": ("smollm2-135m-instruct", "docs"),
    "/v1/embeddings": ("all-minilm-l6-v2",),
    "/tokenize": ("smollm2-135m-instruct",),
    "/detokenize": ("smollm2-135m-instruct",),
}


@pytest.fixture(scope="module")
def url(
    smollm2: ModelFolder, minilm: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    root = tmp_path_factory.mktemp("served")
    (root / "home" / "models").mkdir(parents=True)
    for folder in (smollm2, minilm):
        (root / "home" / "models" / folder.name).symlink_to(folder.path)
    (root / "docs").mkdir()
    (root / "docs" / "letters.md").write_text(LETTERS)
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with (root / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "lmstack", "up", "docs", "--port", str(port)],
            cwd=root,
            env={**os.environ, "LMSTACK_HOME": str(root / "home")},
            stdout=log,
            stderr=log,
        )
        try:
            ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 130
    said = Path(root / "log").read_text()
    assert "Traceback" not in said


def ready(url: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the server did not start")


def short(case, names: tuple[str, ...], number: int):
    """A served model and few tokens, where the body is one that could have asked for them."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body = body | {"model": names[number % len(names)]}
        for field in ("max_tokens", "max_completion_tokens"):
            if type(body.get(field)) is int and body[field] > 2:
                body[field] = 2
        if "messages" in body and "max_completion_tokens" not in body:
            body.setdefault("max_tokens", 2)
        case.body = body
    return case


def checker(names: tuple[str, ...], statuses: set[int]):
    count = iter(range(10_000))

    def check(case) -> None:
        answer = short(case, names, next(count)).call(timeout=120)
        while answer.status_code == 429:  # the default limit of requests a minute
            time.sleep(float(answer.headers["Retry-After"]))
            answer = case.call(timeout=120)
        statuses.add(answer.status_code)
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    return check


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_sent_is_answered_as_documented(url: str, mode: GenerationMode) -> None:
    project = ProjectConfig(generation=GenerationConfig(modes=[mode]))
    config = SchemathesisConfig(projects=ProjectsConfig(default=project))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue
        statuses = seen.setdefault(operation.path, set())
        check = checker(NAMES.get(operation.path, ("",)), statuses)
        shaped = settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        shaped(given(case=operation.as_strategy(generation_mode=mode))(check))()
    assert set(NAMES) <= set(seen)
    assert not any(status >= 500 for statuses in seen.values() for status in statuses)
    assert "lmstack_kv_blocks_used 0.0" in httpx.get(f"{url}/metrics").text
