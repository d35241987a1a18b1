"""Options of `lmstack up` for other versions of the model: a canary, a shadow, what an alias comes
to stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from lmstack.app import wiring
from lmstack.app.cli.command import option
from lmstack.app.cli.commands._options import say_if_remote
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.wiring import tasks

if TYPE_CHECKING:
    from lmstack.release.traffic import TrafficCandidate

__all__ = ["CanaryName", "LiveTexts", "Pin", "ShadowName", "Share", "candidate_of"]

CanaryName = Annotated[
    str | None,
    option(
        "--canary MODEL[=FORM]: Let this version of the model answer a share of the "
        "conversations, and compare it with the other: `lmstack release traffic`. What it fails"
        " at is answered by the other; once it is shown to fail more often, it is not asked any"
        " more."
    ),
]
ShadowName = Annotated[
    str | None,
    option(
        "--shadow MODEL[=FORM]: Ask this version of the model a share of what was asked, when "
        "there is time; nobody sees its answers: `lmstack release traffic` compares them."
    ),
]
Share = Annotated[
    float | None,
    option("--share S: Of conversations for --canary or --shadow. [default: 0.1]"),
]
LiveTexts = Annotated[
    bool,
    option(
        "--live-texts: With --canary or --shadow: keep prompts and answers on this machine, "
        "too, instead of their hashes and lengths alone."
    ),
]
Pin = Annotated[
    bool,
    option(
        "--pin: Keep the releases that aliases stand for at the start. Unless given, what "
        "`lmstack release promote` or `rollback` moves an alias to takes over once it is "
        "loaded."
    ),
]


def candidate_of(
    out: Output, canary: str | None, shadow: str | None, share: float | None, texts: bool
) -> TrafficCandidate | None:
    """What --canary, --shadow and what belongs to them say; the model is here."""
    from lmstack.release.traffic import DEFAULT_SHARE, TrafficCandidate

    if canary is not None and shadow is not None:
        raise CommandLineError(
            "--canary and --shadow are both given", hint="leave one out", param="shadow"
        )
    given = shadow if canary is None else canary
    if given is None:
        for option, value in (("--share", share is not None), ("--live-texts", texts)):
            if value:
                raise CommandLineError(
                    f"{option} is for --canary or --shadow, and neither is given",
                    hint="--canary MODEL, or leave it out",
                )
        return None
    name, form = tasks.name_and_form(given, "shadow" if canary is None else "canary")
    candidate = TrafficCandidate(
        "shadow" if canary is None else "canary",
        name,
        form,
        DEFAULT_SHARE if share is None else share,
        wiring.is_remote(name),
        texts,
    )
    wiring.require_candidate(candidate)
    say_if_remote(out, name)
    return candidate
