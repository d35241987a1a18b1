"""Whatever is typed, the answer is a result or two lines: never a traceback or crash report."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.app import wiring
from lmstack.app.cli.failure import EXIT_CRASH
from lmstack.app.inspect import rates
from lmstack.app.inspect.rates import Rates
from lmstack.core import NotFoundError

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

COMMANDS = (
    ["ask"],
    ["search"],
    ["pull"],
    ["model"],
    ["model", "rm"],
    ["model", "inspect"],
    ["model", "inspect", "attention"],
    ["model", "inspect", "tokens"],
    ["tokenizer", "count"],
    ["index"],
    ["index", "add"],
    ["index", "update"],
    ["index", "remove"],
    ["index", "status"],
    ["index", "verify"],
    ["audit", "verify"],
    ["up"],
    ["doctor", "plan"],
)
OPTIONS = [
    *("--docs", "--index", "--json", "--quiet", "-q", "-v", "--model", "--embedder", "--explain"),
    *("-k", "--rebuild", "--mode", "--port", "--host", "--expect-head", "--help", "--version"),
    *("--compare", "--price", "--show", "--html", "--layer", "--head", "--target", "-o", "--top"),
    *("--users", "--context", "--memory", "--weights", "--kv", "--output"),
    *("--", "-x", "--no-such-option"),
]
VALUES = [
    *("docs", "no/such", ".", "", " ", "0", "-1", "99999", "hybrid", "openai:x", "letters"),
    *("a\nb", "\x1b[2J", "\ud800", "sha256:00", "hf:a/b", "pypi:a==1", "../..", "x" * 300),
    *("8", "1,2", "16GiB", "{}", "x.json", "https://h/v1"),
    *("0.0.0.0", "/dev/null", "nul\0byte", "nul\0byte.png", "no/x.png", "words", "words=2"),
]
words = st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | st.text(max_size=8)


@pytest.fixture
def sealed(docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model, no download, no server: what remains is what the command line does by itself."""

    def missing(*_: object, **__: object) -> None:
        raise NotFoundError("there is no model here", hint="lmstack pull")

    for part in ("generator", "lazy_generator", "require_models", "pull"):
        monkeypatch.setattr(wiring, part, missing)
    known = Rates(1e9, 1e9, {"bfloat16": 1e9})
    monkeypatch.setattr(rates, "measure_rates", lambda *_, **__: known)
    monkeypatch.delenv("LMSTACK_API_KEYS", raising=False)
    (docs.parent / "words").mkdir()
    vocabulary = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    vocabulary.save(str(docs.parent / "words" / "tokenizer.json"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"words")))


def typed(examples: int) -> Callable[..., Any]:
    """A test of so many commands with anything after them."""
    shape = settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    drawn = given(command=st.sampled_from(COMMANDS), rest=st.lists(words, max_size=5))
    return lambda test: shape(drawn(test))


@typed(60)
def test_nothing_that_is_typed_is_a_fault_of_ours(
    run: Run, sealed: None, home: Path, command: list[str], rest: list[str]
) -> None:
    _check(run, home, command, rest)


@pytest.mark.long
@typed(1500)
def test_nothing_of_much_that_is_typed_is_a_fault_of_ours(
    run: Run, sealed: None, home: Path, command: list[str], rest: list[str]
) -> None:
    _check(run, home, command, rest)


def _check(run: Run, home: Path, command: list[str], rest: list[str]) -> None:
    ran = run(*command, *rest)
    assert ran.code in (0, 1, 2), ran.err
    assert ran.code != EXIT_CRASH
    assert "Traceback" not in ran.out + ran.err
    assert "\x1b" not in ran.out + ran.err
    assert not (home / "crashes").exists()
    if ran.code and "--json" in rest and ran.out:
        assert json.loads(ran.out)
