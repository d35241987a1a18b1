"""A task whose prompts go through the model's chat template, as lm-evaluation-harness does it with
``--apply_chat_template``, and with ``--fewshot_as_multiturn``.

It is in the solver's protocol, so that no score of one way is taken for one of another. Tasks that
are chats by their own protocol stay what they are. Not covered: the conversation itself
(`lmstack.evals.conversation`).
"""

from __future__ import annotations

from dataclasses import replace

from lmstack.core import InputError
from lmstack.evals.benchmarks.solvers import GenerationSolver, LikelihoodSolver
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.task import Solver, Task

__all__ = ["with_chat"]


def with_chat(task: Task, *, shots_as_turns: bool = False) -> Task:
    """``shots_as_turns``: each example is a turn of the user and one of the assistant.
    `InputError` for a task that has one way to ask."""
    return replace(task, solver=_chatting(task, task.solver, shots_as_turns))


def _chatting(task: Task, solver: Solver, shots_as_turns: bool) -> Solver:
    if isinstance(solver, LikelihoodSolver | MultipleChoice):
        return replace(solver, chat=True, shots_as_turns=shots_as_turns)
    if isinstance(solver, GenerationSolver) and solver.chat:
        return replace(solver, shots_as_turns=shots_as_turns)
    if isinstance(solver, Generate):
        return replace(solver, chat=True, shots_as_turns=shots_as_turns) if solver.raw else solver
    if isinstance(solver, SelfConsistency):
        inner = _chatting(task, solver.solver, shots_as_turns)
        assert isinstance(inner, Generate)
        return replace(solver, solver=inner)
    if isinstance(solver, TargetLikelihood) and all(s.targets for s in task.dataset.samples):
        return replace(solver, chat=True)
    raise InputError(
        f"{task.name} has one way to send its prompts, which is not through a chat template",
        hint="leave --chat out for it",
        param="chat",
    )
