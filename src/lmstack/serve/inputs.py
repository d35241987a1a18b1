"""From a request's text to token ids: its prompt, the words it forbids and those it demands.

A decoder continues its prompt; of an encoder-decoder the prompt is what its encoder reads. Not
covered: how tokens become text again (`choices`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmstack.core import Message, Request, SamplingParams, UnsupportedError, shown
from lmstack.registry import GenerationDefaults
from lmstack.text import ChatTemplate, Tokenizer

__all__ = ["bad_words", "force_words", "prompt_ids", "with_defaults"]

Runs = tuple[tuple[int, ...], ...]


def prompt_ids(
    request: Request, tokenizer: Tokenizer, template: ChatTemplate | None, *, encodes: bool
) -> tuple[int, ...]:
    """``encodes``: for an encoder. Without a chat template it reads the contents of the messages,
    in order, each on a line of its own: such models know no roles."""
    _check_names(request.messages, template)
    if request.messages and template is not None:
        return tuple(template.encode(request.messages, tokenizer))
    prompt = request.prompt
    if request.messages:
        if not encodes:
            raise UnsupportedError(
                "this model has no chat template",
                hint="send a prompt instead of messages (/v1/completions)",
                param="messages",
            )
        prompt = joined(request.messages)
    if not isinstance(prompt, str):
        return prompt or ()
    # What others wrote holds no control tokens, unless it is a raw prompt.
    ids = tuple(tokenizer.encode(prompt, special=not request.messages))
    # Nothing at all to read: begin as a text begins.
    start = tokenizer.bos_id
    return ids if ids or start is None else (start,)


def _check_names(messages: Sequence[Message], template: ChatTemplate | None) -> None:
    """Refuse the first name that the model would not be shown."""
    named = (place for place, message in enumerate(messages) if message.name)
    place = next(named, None) if template is None else template.unread_name(messages)
    if place is not None:
        raise UnsupportedError(
            f"the prompt of this model has no place for the name {shown(messages[place].name)}",
            hint="put the name into the content of the message",
            param=f"messages.{place}.name",
        )


def joined(messages: Sequence[Message]) -> str:
    return "\n".join(m.content for m in messages)


def bad_words(sampling: SamplingParams, tokenizer: Tokenizer, defaults: GenerationDefaults) -> Runs:
    """Each word as it begins a text and as it follows another, as vLLM does, and those that the
    model's makers exclude. An end token among them still ends, as in transformers."""
    never = (word for word in defaults.bad_words if not {*word} <= defaults.eos_ids)
    forms = [form for word in sampling.bad_words for form in (word.lstrip(), " " + word.lstrip())]
    return tuple(dict.fromkeys((*_runs(forms, tokenizer), *never)))


def force_words(sampling: SamplingParams, tokenizer: Tokenizer) -> Runs:
    """Each phrase exactly as it is written, a leading space included."""
    return tuple(_runs(sampling.force_words, tokenizer))


def _runs(texts: Iterable[str], tokenizer: Tokenizer) -> Iterable[tuple[int, ...]]:
    encoded = (tokenizer.encode(t, special=False, add_special_tokens=False) for t in texts)
    return (tuple(ids) for ids in encoded if ids)


def with_defaults(sampling: SamplingParams, defaults: GenerationDefaults) -> SamplingParams:
    """With the first and last tokens that the model's makers prescribe. What they merely
    recommend (beams, temperature) is for the caller to ask for."""
    forced = {
        name: getattr(defaults, name)
        for name in ("forced_bos_id", "forced_eos_id")
        if getattr(sampling, name) is None and getattr(defaults, name) is not None
    }
    return sampling.replace(**forced) if forced else sampling
