"""Grammars that are not simple live in a process of their own, which ends with them."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.conftest import Outcome, byte_vocabulary, drive, generate, request

from lmstack.core import EngineError, Grammar, InputError, OverloadedError
from lmstack.engine import Engine
from lmstack.engine.constraints.grammar import GrammarCompiler, GrammarMatcher
from lmstack.engine.constraints.isolated import MAX_OF_SCOPE, IsolatedMatcher
from lmstack.engine.constraints.simple import is_simple

NUM_TOKENS = len(byte_vocabulary())


def schema(value: object) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


def patterns(count: int) -> Grammar:
    """Of one string, all at once: each more doubles what compiling takes."""
    each = [{"type": "string", "pattern": f".*{n}2345.*"} for n in range(count)]
    return schema({"allOf": each})


SMALL = schema({"type": "string", "pattern": "^[ab]+$", "maxLength": 4})


def doubled(names: str) -> str:
    """Terminals, each of them the next one twice."""
    lines = [f"{one}: {two} {two}" for one, two in pairwise(names)]
    return "\n".join([*lines, f'{names[-1]}: "x"'])


@pytest.fixture
def compiler() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(byte_vocabulary(), 1 << 20)
    yield made
    made.close()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a test can wait for."""
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 0.3)


def children() -> set[int]:
    """All processes that descend from this one."""
    parents: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(each.parent.name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def until(holds: Callable[[], bool], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def write(matcher: GrammarMatcher, text: str) -> None:
    for byte in text.encode():
        mask = matcher.mask(NUM_TOKENS)
        assert mask[byte // 32] >> (byte % 32) & 1, chr(byte)
        matcher.accept(byte)


@pytest.mark.parametrize(
    "grammar",
    [
        patterns(24),
        Grammar("regex", "x{1000000}"),
        Grammar("lark", "start: A\n" + doubled("ABCDEFGHIJKLMNOPQRSTUVWX")),
        Grammar(
            "tool_calls",
            json.dumps(
                {
                    "lead": ["<"],
                    "name_end": [">"],
                    "end": ["</>"],
                    "tools": [["f", {"properties": {"a": json.loads(patterns(24).source)}}]],
                    "required": True,
                    "max_calls": 1,
                    "separators": [", ", ": "],
                }
            ),
        ),
    ],
    ids=["patterns", "count", "terminals", "tools"],
)
def test_a_small_grammar_that_explodes_is_refused_and_this_process_does_no_work(
    compiler: GrammarCompiler, brief: None, grammar: Grammar
) -> None:
    assert len(grammar.source) < 2000
    start, memory = time.process_time(), _resident()
    with pytest.raises(InputError, match=r"too complex|takes more than") as caught:
        compiler.compile(grammar)
    assert time.process_time() - start < 0.5
    assert _resident() - memory < 32 << 20
    expected = "tools" if grammar.kind == "tool_calls" else "response_format"
    assert caught.value.param == expected


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_grammar_whose_steps_take_too_long_ends_its_request_alone(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    with monkeypatch.context() as patched:
        patched.setattr("lmstack.engine.constraints.isolated.MAX_STEPS_S", 1e-6)
        patched.setattr("lmstack.engine.constraints.isolated.REFILL_S", 0)
        matcher = engine.grammars.compile(_named(7))
    with pytest.raises(InputError, match=r"too complex.*a step takes more than"):
        [matcher.fork().mask(NUM_TOKENS) for _ in range(1000)]
    assert not matcher.finished  # what a limit cuts is no whole text
    assert generate(engine, [1], grammar=SMALL, max_tokens=40).last.finish_reason == "stop"
    # What was kept of it is of no use any more, and is compiled anew.
    write(engine.grammars.compile(_named(7)), '"a7"')


def test_a_process_that_is_gone_ends_its_request_alone(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine()
    engine.grammars.compile(_named(1))
    before = children()
    outcome, other = Outcome(), Outcome()
    engine.submit(request([1], outcome, id="one", grammar=SMALL, max_tokens=40))
    engine.submit(request([2], other, id="two", max_tokens=4))
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    drive(engine)
    assert isinstance(outcome.last.error, InputError)
    assert other.last.finish_reason == "length"


def test_memory_of_a_grammar_is_bounded_where_it_is_compiled(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 60.0)
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_MEMORY_BYTES", 16 << 20)
    with pytest.raises(InputError, match="16 MiB"):
        compiler.compile(patterns(24))


def test_isolated_masks_are_those_of_the_same_grammar_compiled_here(
    compiler: GrammarCompiler,
) -> None:
    assert not is_simple(SMALL)
    here = GrammarMatcher(compiler._builder.build(SMALL))
    there = compiler.compile(SMALL)
    assert isinstance(there._matcher, IsolatedMatcher)
    for byte in b'"abba':
        np.testing.assert_array_equal(there.mask(NUM_TOKENS), here.mask(NUM_TOKENS))
        tokens = [byte, ord("z")]
        assert there.admits(tokens) == here.admits(tokens) == 1
        assert there.forced() == here.forced()
        fork = there.fork()
        there.accept(byte)
        here.accept(byte)
        assert not fork.finished
        np.testing.assert_array_equal(fork.fork().mask(NUM_TOKENS), fork.mask(NUM_TOKENS))
    assert there.forced() == here.forced() != ()
    there.accept(ord('"'))
    assert there.finished
    with pytest.raises(EngineError, match="left the grammar"):
        fork.accept(ord("z"))


def test_whoever_leaves_ends_the_compiling(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 600.0)
    write(compiler.compile(SMALL), '"a')  # the process that forks is there
    before = children()
    abandoned = threading.Event()
    errors: list[Exception] = []

    def ask() -> None:
        try:
            compiler.compile(patterns(24), "", abandoned)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert until(lambda: len(children() - before) == 1)
    abandoned.set()
    thread.join(10)
    assert "nobody waits" in str(errors[0])
    assert until(lambda: not children() - before)


def test_closing_ends_what_is_compiled_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmstack.engine.constraints.isolated.MAX_COMPILE_S", 600.0)
    before = children()
    compiler = GrammarCompiler(byte_vocabulary(), 1 << 20)
    held = compiler.compile(SMALL)

    def ask() -> None:
        with pytest.raises(EngineError):
            compiler.compile(patterns(24))

    thread = threading.Thread(target=ask)
    thread.start()
    assert until(lambda: len(children() - before) == 3)
    assert compiler.compiling_s() > 0
    start = time.monotonic()
    compiler.close()
    thread.join(10)
    assert time.monotonic() - start < 5
    assert until(lambda: not children() - before)
    with pytest.raises(InputError, match="too complex"):
        held.mask(NUM_TOKENS)
    assert compiler.compiling_s() == 0


def test_a_grammar_that_nobody_uses_any_more_leaves_no_process(compiler: GrammarCompiler) -> None:
    first = compiler.compile(SMALL)
    before = children()
    matcher = compiler.compile(_named(1))
    (added,) = children() - before
    compiler._compiled.clear()
    write(matcher, '"a')
    assert added in children()
    del matcher
    gc.collect()
    assert until(lambda: added not in children())
    write(first, '"a')


def _named(number: int) -> Grammar:
    return schema({"type": "string", "pattern": f"^a{number}$", "maxLength": 9})


def test_one_client_cannot_hold_all_processes(compiler: GrammarCompiler) -> None:
    held = [compiler.compile(_named(n), "one") for n in range(MAX_OF_SCOPE)]
    with pytest.raises(OverloadedError, match=f"{MAX_OF_SCOPE} complex grammars of yours"):
        compiler.compile(_named(99), "one")
    write(compiler.compile(_named(99), "other"), '"a99"')
    write(compiler.compile(_named(3), "one"), '"a3"')
    held.pop()
    write(compiler.compile(_named(99), "one"), '"a99"')


def test_grammars_that_are_only_kept_make_room_for_others(compiler: GrammarCompiler) -> None:
    for number in range(MAX_OF_SCOPE + 3):
        write(compiler.compile(_named(number), "one"), f'"a{number}"')


def test_many_optional_properties_are_refused_before_the_first_token(
    make_engine: Callable[..., Engine],
) -> None:
    properties = {f"property_{n}": {"type": "string"} for n in range(2300)}
    grammar = schema({"type": "object", "properties": properties})
    with pytest.raises(InputError, match=r"too complex.*items") as caught:
        make_engine().submit(request([1], grammar=grammar))
    assert "optional properties" in str(caught.value.hint)


def test_a_compiler_process_that_was_killed_is_started_again(compiler: GrammarCompiler) -> None:
    compiler.compile(_named(1))
    before: Any = compiler._isolated._finalizer
    compiler._isolated._channel.close()
    with pytest.raises(EngineError, match="has ended"):
        compiler.compile(_named(2))
    assert not before.alive
    write(compiler.compile(_named(2)), '"a2"')
