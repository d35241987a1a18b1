"""Compiling a large grammar in a process apart first: what it would do to this one stays there.

A schema of some thousand definitions that refer to one another overflows the compiler's stack,
which ends the process; one with thousands of patterns takes many seconds and gigabytes. In this
process a grammar is compiled only after `grammar_process` compiled it within the limits.
Not covered: small grammars, which can do neither (`grammar.TRIED_ABOVE_BYTES`).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from lmstack.core import Grammar, InputError
from lmstack.engine.constraints.vocabulary import Vocabulary

__all__ = ["MAX_COMPILE_S", "MAX_MEMORY_BYTES", "try_grammar"]

# Of processor time, so that a busy machine does not refuse a good grammar.
MAX_COMPILE_S = 2.0
# Every stream waits for the mask of each.
MAX_MASK_S = 0.1
MAX_MEMORY_BYTES = 1_000_000_000
MAX_WAIT_S = 60.0
# The package by its path alone: its __init__ would load torch. -P: a module that lies in the
# current folder is never run.
_START = (
    "import sys, types; "
    "package = types.ModuleType('lmstack.engine'); package.__path__ = [sys.argv.pop()]; "
    "sys.modules['lmstack.engine'] = package; "
    "from lmstack.engine.constraints.grammar_process import main; main()"
)


def try_grammar(grammar: Grammar, vocabulary: Vocabulary) -> None:
    """`InputError` if ``grammar`` cannot be compiled within the limits."""
    asked = {
        "kind": grammar.kind,
        "source": grammar.source,
        "tokens": [base64.b64encode(token).decode() for token in vocabulary.token_bytes],
        "eos_ids": sorted(vocabulary.eos_ids),
        "special_ids": sorted(vocabulary.special_ids),
        "limits": [MAX_COMPILE_S, MAX_MASK_S, MAX_MEMORY_BYTES],
    }
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[1])],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A pool of threads for vectors, which compiling has none of, is address space.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the process that serves
            timeout=MAX_WAIT_S,
        )
    except subprocess.TimeoutExpired:
        raise _too_large(grammar) from None
    if ran.returncode:
        raise _too_large(grammar)
    refused = json.loads(ran.stdout)
    if refused is not None:
        raise InputError(refused["message"], hint=refused["hint"], param="response_format")


def _too_large(grammar: Grammar) -> InputError:
    return InputError(
        f"the {grammar.kind} grammar of {len(grammar.source)} characters is too complex: it takes "
        f"more than {MAX_COMPILE_S:g} s or {MAX_MEMORY_BYTES // 10**6} MB to compile, or more "
        "definitions within definitions than the compiler can follow",
        hint="use fewer patterns, properties and definitions",
        param="response_format",
    )
