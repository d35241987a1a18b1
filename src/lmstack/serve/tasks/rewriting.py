"""Summarization and translation with encoder-decoders, of texts of any length.

A text that the encoder cannot see at once is split into whole paragraphs, else sentences, else
words; each piece is rewritten, and the results are joined with what stood between the pieces, so
nothing is dropped and nothing is said twice. Prefixes ("summarize: ") and search settings come from
``task_specific_params`` of config.json where the caller gives none, as in transformers 4's
pipelines, which version 5 dropped. Does not cover language codes of multilingual models (mBART,
NLLB).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nupunkt

from lmstack.core import Config, InputError, Request, SamplingParams, check_text
from lmstack.serve.tasks.encoder import max_tokens
from lmstack.serve.tasks.generating import MAX_TOKENS, GeneratingTask
from lmstack.serve.tasks.results import Rewritten

__all__ = ["Summarization", "Translation", "join", "paragraphs", "split"]

Fits = Callable[[str], bool]
Span = tuple[int, int]

_BREAK = re.compile(r"\n[ \t]*\n\s*")
_WORD = re.compile(r"\S+")
# Punkt is linear in theory; in practice long texts without a blank line cost it dearly.
_MAX_PROSE = 20_000

# Names of search settings, ours and those of config.json.
_SEARCH = ("num_beams", "length_penalty", "early_stopping", "no_repeat_ngram_size")
_BEAM_ONLY = ("length_penalty", "early_stopping")


@dataclass(frozen=True)
class RewriteOptions(Config):
    """``prefix``: put before every piece; None for the model's own. ``source``, ``target``:
    language codes of a translation, for models that know several pairs. ``sampling``: what the
    model's own settings do not decide; fields of `SamplingParams` may be given directly."""

    prefix: str | None = None
    source: str | None = None
    target: str | None = None
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("prefix", "source", "target"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        SamplingParams.from_mapping(self.sampling)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RewriteOptions:
        """Fields of `SamplingParams` beside our own go to ``sampling``."""
        names = {field.name for field in dataclasses.fields(SamplingParams)}
        direct = {name: value for name, value in values.items() if name in names}
        rest = {name: value for name, value in values.items() if name not in names}
        return super().from_mapping({**rest, "sampling": {**rest.get("sampling", {}), **direct}})


class _Rewriting(GeneratingTask[str, RewriteOptions, Rewritten]):
    """Inputs: texts."""

    options_type = RewriteOptions

    def settings_key(self, _: RewriteOptions) -> str | None:
        """Which of the model's ``task_specific_params`` hold."""
        return self.name

    def pieces(self, text: str, prefix: str) -> list[Piece]:
        """What is rewritten at a time: as much as the encoder sees."""
        encode, limit = self.loaded.tokenizer.encode, max_tokens(self.loaded)
        if len(encode(prefix + " x")) > limit:
            raise InputError(
                f"the prefix fills the {limit} tokens that the model sees",
                hint="give a shorter one",
                param="prefix",
            )
        return split(text, lambda part: len(encode(prefix + part)) <= limit)

    def run(self, items: Sequence[str], options: RewriteOptions) -> list[Rewritten]:
        settings = self.known_settings().get(self.settings_key(options) or "", {})
        prefix = settings.get("prefix", "") if options.prefix is None else options.prefix
        sampling = self._sampling(settings, options.sampling)
        pieces = [self.pieces(text, prefix) for text in items]
        requests = [
            Request(prompt=prefix + piece.text, sampling=sampling)
            for each in pieces
            for piece in each
        ]
        done = iter(self.complete(requests))
        return [
            Rewritten(join(each, [next(done).text.strip() for _ in each]), len(each))
            for each in pieces
        ]

    def known_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """What the model states for each task it was trained on."""
        stated = self.loaded.config.get("task_specific_params")
        entries = stated.items() if isinstance(stated, Mapping) else ()
        return {str(key): value for key, value in entries if isinstance(value, Mapping)}

    def _sampling(self, settings: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingParams:
        """Given settings before those of the task before those of the model; greedy without."""
        values: dict[str, Any] = {"temperature": 0.0}
        general = self.loaded.generation
        for name in _SEARCH:
            value = settings.get(name, getattr(general, name, None))
            if value is not None:
                values[name] = value
        # These count the token that starts the output, which is not ours to generate.
        longest = settings.get("max_length", getattr(general, "max_length", None))
        values["max_tokens"] = max(int(longest) - 1, 1) if longest else MAX_TOKENS
        shortest = settings.get("min_length", getattr(general, "min_length", None))
        values["min_tokens"] = max(int(shortest or 0) - 1, 0)
        values |= given
        if values.get("num_beams", 1) == 1:
            values = {k: v for k, v in values.items() if k not in _BEAM_ONLY or k in given}
        if "max_tokens" in given and "min_tokens" not in given:
            values["min_tokens"] = min(values["min_tokens"], values["max_tokens"] or 0)
        return SamplingParams.from_mapping(values)


class Summarization(_Rewriting):
    """The summaries of a long text's pieces stand one after the other."""

    name = "summarization"


class Translation(_Rewriting):
    """Paragraphs stay apart; within a long one, whole sentences are translated together."""

    name = "translation"

    def settings_key(self, options: RewriteOptions) -> str | None:
        pairs = sorted(k for k in self.known_settings() if k.startswith("translation_"))
        wanted = [
            pair
            for pair in pairs
            if options.source in (None, _languages(pair)[0])
            and options.target in (None, _languages(pair)[1])
        ]
        asked = options.source is not None or options.target is not None
        if len(wanted) == 1 or options.prefix is not None:
            return wanted[0] if len(wanted) == 1 else None
        if not pairs and not asked:
            return None  # a model of one pair needs no prefix
        raise InputError(
            f"{self.loaded.name} translates {', '.join(_arrow(p) for p in pairs) or 'one pair'},"
            f" asked for {options.source or 'any'} to {options.target or 'any'}",
            hint="choose with source and target, or give the prefix that the model was trained on",
            param="target",
        )

    def pieces(self, text: str, prefix: str) -> list[Piece]:
        found: list[Piece] = []
        for paragraph in paragraphs(text):
            *first, last = super().pieces(paragraph.text, prefix)
            found += [*first, Piece(last.text, paragraph.gap)]
        return found


def _languages(key: str) -> tuple[str, str]:
    """``translation_en_to_de`` to ("en", "de")."""
    source, _, target = key.removeprefix("translation_").partition("_to_")
    return source, target


def _arrow(key: str) -> str:
    return " to ".join(_languages(key))


@dataclass(frozen=True)
class Piece:
    """``gap``: what stood between this piece and the next."""

    text: str
    gap: str = ""


def join(pieces: Sequence[Piece], texts: Sequence[str]) -> str:
    """``texts`` in place of the pieces, with the same gaps."""
    return "".join(text + piece.gap for piece, text in zip(pieces, texts, strict=True)).strip()


def paragraphs(text: str) -> list[Piece]:
    """What blank lines separate."""
    return _pieces(text, _stripped(text, _between(text, _BREAK)))


def split(text: str, fits: Fits) -> list[Piece]:
    """As few pieces as whole paragraphs allow; one that does not fit is split at sentences, a
    sentence at words, a word at characters."""
    whole = _stripped(text, [(0, len(text))])
    spans = _joined(text, whole, fits, [_paragraph_spans, _sentence_spans, _word_spans])
    return _pieces(text, spans)


def _joined(
    text: str,
    spans: Sequence[Span],
    fits: Fits,
    finer: Sequence[Callable[[str, Span], list[Span]]],
) -> list[Span]:
    """Neighbours among ``spans`` joined while they fit; what does not fit alone, taken apart."""
    found: list[Span] = []
    for span in spans:
        if found and fits(text[found[-1][0] : span[1]]):
            found[-1] = (found[-1][0], span[1])
        elif fits(text[span[0] : span[1]]):
            found.append(span)
        elif finer:
            found += _joined(text, finer[0](text, span), fits, finer[1:])
        else:
            found += _cut(text, span, fits)
    return found


def _paragraph_spans(text: str, span: Span) -> list[Span]:
    return _within(text, span, lambda part: _between(part, _BREAK))


def _sentence_spans(text: str, span: Span) -> list[Span]:
    start, end = span
    found: list[Span] = []
    while start < end:
        stop = min(end, start + _MAX_PROSE)
        if stop < end:
            cut = text.rfind(" ", start + 1, stop)
            stop = cut if cut > start else stop
        found += _within(text, (start, stop), lambda part: list(nupunkt.sent_spans(part)))
        start = stop
    return found


def _word_spans(text: str, span: Span) -> list[Span]:
    return _within(text, span, lambda part: [m.span() for m in _WORD.finditer(part)])


def _cut(text: str, span: Span, fits: Fits) -> Iterator[Span]:
    """A word that is too long: as many characters at a time as fit, at least one."""
    start, end = span
    while start < end:
        low, high = start + 1, end
        while low < high:  # the longest prefix that fits, by bisection
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(text[start:middle]) else (low, middle - 1)
        yield start, low
        start = low


def _within(text: str, span: Span, spans: Callable[[str], list[Span]]) -> list[Span]:
    start, end = span
    found = [(start + a, start + b) for a, b in spans(text[start:end])]
    return _stripped(text, found)


def _between(text: str, separator: re.Pattern[str]) -> list[Span]:
    gaps = [match.span() for match in separator.finditer(text)]
    starts = [0, *(end for _, end in gaps)]
    return list(zip(starts, [*(start for start, _ in gaps), len(text)], strict=True))


def _stripped(text: str, spans: Sequence[Span]) -> list[Span]:
    """Without white space at their ends, and without those that hold nothing else."""
    found = []
    for start, end in spans:
        part = text[start:end]
        left, right = start + len(part) - len(part.lstrip()), start + len(part.rstrip())
        if left < right:
            found.append((left, right))
    return found


def _pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    ends = [start for start, _ in spans[1:]]
    gaps = [text[end:start] for (_, end), start in zip(spans, ends, strict=False)]
    return [
        Piece(text[start:end], gap) for (start, end), gap in zip(spans, [*gaps, ""], strict=False)
    ]
