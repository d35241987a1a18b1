"""The commands, one or a few a file: importing a file declares them. Bodies reach the rest of
lmstack through `wiring`."""

from __future__ import annotations

__all__ = ["declare_all"]


def declare_all() -> None:
    """Import every file that declares commands."""
    from lmstack.app.cli.commands import (  # noqa: F401
        agent,
        ask,
        audit,
        data_best_of,
        data_feedback,
        data_judge,
        data_preferences,
        data_problems,
        data_questions,
        data_rate,
        data_report,
        doctor,
        doctor_machine,
        doctor_plan,
        embed,
        eval,
        eval_answers,
        eval_compare,
        eval_judge,
        eval_logs,
        eval_report,
        feedback,
        index,
        index_looking,
        index_move,
        mcp,
        model,
        model_attention,
        model_convert,
        model_inspect,
        model_merge,
        model_quantize,
        model_read,
        prompt,
        prompt_trial,
        release_list,
        release_promote,
        release_rollback,
        release_traffic,
        run,
        scaling,
        search,
        tokenizer,
        tokenizer_count,
        train,
        up,
    )
