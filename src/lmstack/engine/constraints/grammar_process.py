"""The process in which a large grammar is compiled first (`grammar_trial`).

It ends itself where a limit is passed; whoever started it takes that for a refusal.
"""

from __future__ import annotations

import base64
import json
import resource
import signal
import sys
import time
from pathlib import Path

from lmstack.core import Grammar, InputError, LmstackError
from lmstack.engine.constraints.grammar import GrammarCompiler
from lmstack.engine.constraints.vocabulary import Vocabulary

__all__ = ["main"]


def main() -> None:
    """What `try_grammar` wrote on stdin; null on stdout if the grammar is good, or why it is
    not."""
    asked = json.load(sys.stdin)
    vocabulary = Vocabulary(
        [base64.b64decode(token) for token in asked["tokens"]],
        frozenset(asked["eos_ids"]),
        frozenset(asked["special_ids"]),
    )
    compiler = GrammarCompiler(vocabulary, sys.maxsize)
    compiler.warm_up()
    compile_s, mask_s, memory_bytes = asked["limits"]
    _limit_memory(memory_bytes)
    # Nobody handles this signal: the kernel ends the process, whatever it is doing.
    signal.setitimer(signal.ITIMER_PROF, compile_s)
    try:
        matcher = compiler.compile_here(Grammar(asked["kind"], asked["source"]))
        start = time.process_time()
        matcher.mask(len(vocabulary))
        if time.process_time() - start > mask_s:
            raise InputError(
                f"the grammar allows so much at its beginning that a token takes more than "
                f"{mask_s:g} s to choose",
                hint="use fewer patterns and properties",
            )
    except LmstackError as error:
        json.dump({"message": error.message, "hint": error.hint}, sys.stdout)
    else:
        json.dump(None, sys.stdout)


def _limit_memory(beyond: int) -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + beyond
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # not Linux, or a lower limit holds already
        return
