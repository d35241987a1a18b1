"""How a judge is shown what it judges: conversation, reference and answers, each fenced as data
that is not trusted, and then the question.

A fence keeps data apart from instructions; it does not make the judge immune to what it says. The
question comes last and outside of any fence, so that by whichever criterion a prompt begins alike,
which a prefix cache can share. Not covered: how replies are read (`options`, `rubric`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmstack.core import Message, Prompt, Span

__all__ = ["presented"]


def presented(
    prompt: Sequence[Message],
    answers: Mapping[str, str],
    question: str,
    reference: str | None = None,
) -> tuple[Message, ...]:
    """``answers``: by the label that the question names them by, in the order shown.
    ``reference``: an answer that is known to be right."""
    count = "an answer" if len(answers) == 1 else "two answers"
    names = "" if len(answers) == 1 else ", A and B"
    parts: list[str | Span] = [
        f"Here are a conversation and {count} to its last turn{names}.\n\n",
        Span(_conversation(prompt), untrusted=True, label="conversation"),
    ]
    if reference is not None:
        parts += [
            "\n\nThis reference answer is known to be right:\n\n",
            Span(reference, untrusted=True, label="reference answer"),
        ]
    for label, answer in answers.items():
        parts += ["\n\n", Span(answer, untrusted=True, label=label)]
    return (Message("user", f"{Prompt.of(*parts).render()}\n\n{question}"),)


def _conversation(prompt: Sequence[Message]) -> str:
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)
