"""Results as logs of other programs, inspect_ai and lm-evaluation-harness, and their logs as
results."""

from lmstack.evals.logs.files import PROGRAMS, read_logs, write_log
from lmstack.evals.logs.inspect_ai import (
    from_inspect,
    read_inspect_log,
    to_inspect,
    write_inspect_log,
)
from lmstack.evals.logs.lm_eval import (
    from_lm_eval,
    read_lm_eval_log,
    to_lm_eval,
    write_lm_eval_log,
)

__all__ = [
    "PROGRAMS",
    "from_inspect",
    "from_lm_eval",
    "read_inspect_log",
    "read_lm_eval_log",
    "read_logs",
    "to_inspect",
    "to_lm_eval",
    "write_inspect_log",
    "write_lm_eval_log",
    "write_log",
]
