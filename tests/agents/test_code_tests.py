"""Code judged by tests that it cannot reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.hostile_code import ENTRY_POINT, RIGHT, SPOOFS, TESTS
from tests.errors import about

from lmstack.agents.sandbox import CodeTests, CodeTestVerdict, Sandbox, SandboxConfig
from lmstack.agents.sandbox.bubblewrap import Bubblewrap
from lmstack.agents.sandbox.inside import wire
from lmstack.agents.sandbox.sandbox import IsolationName
from lmstack.core import EngineError, InputError


@pytest.fixture(scope="module")
def judge(sandbox: Sandbox) -> CodeTests:
    return CodeTests(sandbox)


def test_right_code_passes_and_no_spoof_does(judge: CodeTests) -> None:
    codes = [RIGHT, *SPOOFS.values()]
    verdicts = judge.judge([(code, TESTS, ENTRY_POINT) for code in codes])
    assert verdicts[0] == CodeTestVerdict(True)
    passed = [name for name, verdict in zip(SPOOFS, verdicts[1:], strict=True) if verdict.passed]
    assert passed == []
    assert all(verdict.reason for verdict in verdicts[1:])


def test_code_that_does_not_end_fails(isolation: IsolationName) -> None:
    judge = CodeTests(Sandbox(SandboxConfig(cpu_s=1, wall_s=30), isolation=isolation))
    (verdict,) = judge.judge([("def add(a, b):\n    while True: pass", TESTS, ENTRY_POINT)])
    assert verdict == CodeTestVerdict(False, "the answer's process ended, or sent what is no value")
    judge = CodeTests(Sandbox(SandboxConfig(wall_s=1), isolation=isolation))
    (verdict,) = judge.judge([("import time\ntime.sleep(100)", TESTS, ENTRY_POINT)])
    assert verdict == CodeTestVerdict(False, "over the time, 1 s")


def test_tests_as_assertions_and_as_functions_are_run(judge: CodeTests) -> None:
    code = "PRIME = 7\ndef double(n): return 2 * n\ndef fail(): raise KeyError('k')"
    right = "assert double(2) == 4 and PRIME == 7\ndef test_more():\n    assert double(3) == 6"
    wrong = "assert double(2) == 4\ndef test_more():\n    assert double(3) == 7"
    raised = "try:\n    fail()\nexcept KeyError as e:\n    assert e.args == ('k',)"
    verdicts = judge.judge([(code, tests, None) for tests in (right, wrong, raised)])
    assert [verdict.passed for verdict in verdicts] == [True, False, True]
    assert verdicts[1].reason == "AssertionError"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("assert (", "'\\(' was never closed"),
        ("add(print, 1)", "the tests pass a builtin_function_or_method"),
        ("x = 1", "never call the code"),
        ("def check(candidate): pass", "never call the code"),
    ],
)
def test_tests_at_fault_are_an_error_and_no_verdict(judge: CodeTests, tests: str, why: str) -> None:
    with pytest.raises(InputError, match=why, check=about("tests")):
        judge.judge([(RIGHT, tests, ENTRY_POINT)])


def test_a_sandbox_that_does_not_start_is_an_error_and_no_failure_of_the_code() -> None:
    judge = CodeTests(Sandbox())
    judge.sandbox._isolation = lambda: Bubblewrap("/bin/false")  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="did not start"):
        judge.judge([(RIGHT, TESTS, ENTRY_POINT)])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans(), inner)
    ),
    max_leaves=8,
)


@given(plain)
def test_plain_data_crosses_as_it_is(value: object) -> None:
    assert repr(wire.decoded(wire.encoded(value))) == repr(value)


@given(st.sets(st.integers() | st.text()))
def test_sets_cross_as_sets(value: set[int | str]) -> None:
    for each in (value, frozenset(value)):
        found = wire.decoded(wire.encoded(each))
        assert (type(found), found) == (type(each), each)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_what_is_no_value_is_a_wire_error_or_plain_data(message: object) -> None:
    try:
        found = wire.decoded(message)
    except wire.WireError:
        return
    wire.encoded(found)
