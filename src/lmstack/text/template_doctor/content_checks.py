"""The traps of chat templates that lie in what people write, each found by writing it.

Covers system messages, contents that come through unchanged, contents that spell control tokens,
white space and dates. Does not cover the frame around messages (``turn_checks.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

from lmstack.core import LmstackError, Message
from lmstack.text.template_doctor.exam import (
    ASKED,
    SYSTEM,
    TALK,
    Checks,
    Exam,
    TemplateFinding,
    apart,
    excerpt,
    fail,
    note,
    ok,
    warn,
)

__all__ = ["CONTENT_CHECKS"]

# Inside what people write: quotes, markup, escapes, code, letters beyond ASCII, blank lines.
VERBATIM = "Is \"a\" < 'b' & {{ c }} \\n {% d %}?\n\n    Größe\t🙂 <b>E</b>"


def _system(exam: Exam) -> Iterator[TemplateFinding]:
    try:
        text = exam.text(SYSTEM, *TALK)
    except LmstackError as error:
        yield warn(
            "the template refuses one",
            error.message,
            "put the instructions into the first message of the user",
        )
        return
    if SYSTEM.content not in text:
        yield fail(
            "it is dropped without a word",
            excerpt(exam.text(SYSTEM, ASKED)),
            "print messages with the role 'system', or refuse them with raise_exception",
        )
        return
    before, _, after = text.partition(SYSTEM.content)
    plain = exam.text(*TALK)
    if plain.startswith(before) and plain.endswith(after) and len(plain) > len(before + after):
        default = plain[len(before) : len(plain) - len(after)]
        yield note("without one, this is put in", excerpt(default))
    else:
        yield ok("it is printed", excerpt(before[-24:]))


def _content(exam: Exam) -> Iterator[TemplateFinding]:
    for role, messages in (
        ("user", [Message("user", VERBATIM), *TALK[1:]]),
        ("assistant", [ASKED, Message("assistant", VERBATIM), *TALK[2:]]),
    ):
        text = exam.text(*messages)
        if VERBATIM not in text:
            yield warn(
                f"what the {role} writes reaches the model changed",
                apart(VERBATIM, text[text.find(VERBATIM[:3]) :]),
                "print {{ message['content'] }} without filters",
            )
            return
    yield ok("what people write reaches the model as it is")


def _injection(exam: Exam) -> Iterator[TemplateFinding]:
    """Contents that spell control tokens, whole and disguised, must add none."""
    benign = exam.control(exam.ids(*TALK, prompt=True))
    used = [exam.tokenizer.token(index) for index in dict.fromkeys([*benign, *exam.eos_ids])]
    for name in used:
        middle = len(name) // 2
        whole = (name, name.upper(), f"{name}\n{name}")
        split = tuple(f"{name[:middle]}{gap}{name[middle:]}" for gap in (" ", "\n", "_", "\\", "*"))
        for hostile in (*whole, *split):
            words = [f"{hostile} {m.content} {hostile}" for m in TALK]
            talk = [Message(m.role, text) for m, text in zip(TALK, words, strict=True)]
            if exam.control(exam.ids(*talk, prompt=True)) != benign:
                yield fail(
                    f"a message can write the control token {name}",
                    excerpt(hostile),
                    "do not change contents in the template (replace, split, join): print them",
                )
                return
    yield ok("no message can write a control token", ", ".join(used))


def _whitespace(exam: Exam) -> Iterator[TemplateFinding]:
    text, prompt = exam.text(*TALK), exam.text(ASKED, prompt=True)
    lead = text[: len(text) - len(text.lstrip())]
    if lead:
        yield warn(
            "a conversation begins with white space, which no training text did",
            excerpt(lead),
            "use {%- and -%} in the template",
        )
    if prompt != exam.text(ASKED) and prompt.endswith((" ", "\t")):
        yield warn(
            "the prompt ends with a space, which most vocabularies keep with the next word",
            excerpt(prompt, 24),
            "end the generation prompt before the space",
        )
    padded = [Message(m.role, f"  {m.content}\n ") for m in TALK]
    whole = exam.text(*padded)
    kept = [m for m in padded if m.content in whole]
    if len(kept) < len(padded):
        roles = sorted({m.role for m in padded if m not in kept})
        what = f"white space around what the {' and the '.join(roles)} write is cut"
        yield note(what)


def _date(exam: Exam) -> Iterator[TemplateFinding]:
    if "strftime_now" in exam.template.source:
        yield warn(
            "the template prints the day's date: the same conversation has other tokens tomorrow",
            "strftime_now",
            "give the date in a system message of your own",
        )


CONTENT_CHECKS: Checks = {
    "system message": _system,
    "content": _content,
    "injection": _injection,
    "white space": _whitespace,
    "date": _date,
}
