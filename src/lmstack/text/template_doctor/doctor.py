"""Whether a model's tokenizer and chat template can be trained and served with: the doctor.

Covers the vocabulary here and the template in ``turn_checks.py`` and ``content_checks.py``. A
check never raises: what fails is itself a finding. Does not cover weights or printing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lmstack.core import LmstackError
from lmstack.text.chat import ChatTemplate
from lmstack.text.template_doctor.content_checks import CONTENT_CHECKS
from lmstack.text.template_doctor.exam import TALK, Exam, TemplateFinding, apart, excerpt
from lmstack.text.template_doctor.turn_checks import TURN_CHECKS
from lmstack.text.tokenizer import Tokenizer

__all__ = ["examine"]

SAMPLE = 'The moon is 384,400 km away.\n\tNaïve façade, "quoted" — don\'t! 日本語 🙂'


def examine(
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    eos_ids: frozenset[int],
    sources: Mapping[str, str] | None = None,
    rows: int | None = None,
) -> list[TemplateFinding]:
    """Every finding about a model's text half. ``eos_ids``: tokens at which serving stops.
    ``sources``: its chat templates by place. ``rows``: of the model's embedding table."""
    found = [*_rows(tokenizer, rows), *_round_trip(tokenizer), *_sources(sources or {})]
    if template is None:
        return [*found, TemplateFinding("template", "note", "there is none: this is no chat model")]
    found += _padding(tokenizer, eos_ids)
    return [*found, *_template(Exam(template, tokenizer, eos_ids))]


def _rows(tokenizer: Tokenizer, rows: int | None) -> Iterator[TemplateFinding]:
    if rows is None:
        return
    seen = f"{tokenizer.vocab_size} tokens, {rows} rows"
    if tokenizer.vocab_size > rows:
        yield TemplateFinding(
            "vocabulary",
            "fail",
            "the tokenizer has ids for which the model has no embedding",
            seen,
            "resize the embedding, or take the tokenizer that the model was trained with",
        )
    else:
        yield TemplateFinding("vocabulary", "ok", "every token has an embedding", seen)


def _round_trip(tokenizer: Tokenizer) -> Iterator[TemplateFinding]:
    ids = tokenizer.encode(SAMPLE, special=False, add_special_tokens=False)
    back = tokenizer.decode(ids)
    if back == SAMPLE:
        yield TemplateFinding("round trip", "ok", "text comes back as it was")
    else:
        yield TemplateFinding(
            "round trip", "note", "text does not come back as it was", apart(SAMPLE, back)
        )


def _sources(sources: Mapping[str, str]) -> Iterator[TemplateFinding]:
    (first, text), *others = sources.items() or [("", "")]
    for place, other in others:
        if other != text:
            yield TemplateFinding(
                "template",
                "warn",
                f"{first} and {place} hold different templates: another program may use the other",
                apart(text, other),
                f"remove the one in {place}; {first} is what lmstack uses",
            )


def _padding(tokenizer: Tokenizer, eos_ids: frozenset[int]) -> Iterator[TemplateFinding]:
    pad = tokenizer.pad_id
    if pad is None:
        yield TemplateFinding(
            "padding", "note", "there is no padding token; lmstack masks by position"
        )
    elif pad in eos_ids:
        yield TemplateFinding(
            "padding",
            "warn",
            "the padding token also ends turns: who leaves it out of the loss by its id never"
            " trains the model to stop",
            excerpt(tokenizer.token(pad)),
            "leave out padding by the attention mask, as lmstack does, or name another token",
        )
    else:
        yield TemplateFinding(
            "padding", "ok", "padding is told from text", excerpt(tokenizer.token(pad))
        )


def _template(exam: Exam) -> Iterator[TemplateFinding]:
    """In the order of a conversation, if one can be had at all."""
    try:
        exam.text(TALK[0], prompt=True)
        talk = exam.text(*TALK)
    except LmstackError as error:
        yield _failed("rendering", error)
        return
    lost = [m.content for m in TALK if m.content not in talk]
    if lost:
        yield TemplateFinding(
            "rendering",
            "fail",
            "a message is not in the prompt as it was written",
            excerpt(lost[0]),
            "print {{ message['content'] }} for every role, unchanged",
        )
        return
    for name, check in {**TURN_CHECKS, **CONTENT_CHECKS}.items():
        try:
            yield from (replace(finding, check=name) for finding in check(exam))
        except LmstackError as error:
            yield _failed(name, error)


def _failed(check: str, error: LmstackError) -> TemplateFinding:
    return TemplateFinding(check, "fail", "a plain conversation fails", error.message, error.hint)
