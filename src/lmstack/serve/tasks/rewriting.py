"""Summarization and translation with encoder-decoders, of texts of any length.

A text that the encoder cannot see at once is split (`splitting`), each piece is rewritten, and
the results are joined with what stood between the pieces. Prefixes ("summarize: ") and search
settings come from ``task_specific_params`` of config.json where the caller gives none, as in
transformers 4's pipelines, which version 5 dropped. Does not cover language codes of
multilingual models (mBART, NLLB).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lmstack.core import Config, InputError, Request, SamplingParams, check_text
from lmstack.registry import LoadedModel
from lmstack.serve.local import LocalModel
from lmstack.serve.tasks.base import Task, text_of
from lmstack.serve.tasks.encoder import max_tokens
from lmstack.serve.tasks.generating import MAX_TOKENS, Generator
from lmstack.serve.tasks.results import Rewritten
from lmstack.serve.tasks.splitting import Piece, join, paragraphs, split

__all__ = ["RewriteOptions", "Summarization", "Translation"]

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


class _Rewriting(Task[str, RewriteOptions, Rewritten]):
    """Inputs: texts."""

    options_type: ClassVar[type[Config]] = RewriteOptions

    def __init__(
        self, loaded: LoadedModel, *, model: LocalModel | None = None, **options: Any
    ) -> None:
        super().__init__(loaded, **options)
        self._generator = Generator(loaded, model)
        self._limit = max_tokens(loaded)

    @abc.abstractmethod
    def settings_key(self, options: RewriteOptions) -> str | None:
        """Which of the model's ``task_specific_params`` hold."""

    @abc.abstractmethod
    def pieces(self, text: str, prefix: str) -> list[Piece]:
        """What is rewritten at a time."""

    def read(self, value: Any, name: str, _: RewriteOptions, /) -> str:
        return text_of(value, name, "text")

    def run(self, items: Sequence[str], options: RewriteOptions) -> list[Rewritten]:
        settings = self._settings(options)
        prefix = settings.get("prefix", "") if options.prefix is None else options.prefix
        sampling = self._sampling(settings, options.sampling)
        pieces = [self.pieces(text, prefix) for text in items]
        requests = [
            Request(prompt=prefix + piece.text, sampling=sampling)
            for each in pieces
            for piece in each
        ]
        done = iter(self._generator.complete(requests))
        return [
            Rewritten(join(each, [next(done).text.strip() for _ in each]), len(each))
            for each in pieces
        ]

    def close(self) -> None:
        self._generator.close()

    def split(self, text: str, prefix: str) -> list[Piece]:
        """By the number of tokens that the encoder sees."""
        encode, limit = self.loaded.tokenizer.encode, self._limit
        if len(encode(prefix + " x")) > limit:
            raise InputError(
                f"the prefix fills the {limit} tokens that the model sees", param="prefix"
            )
        return split(text, lambda part: len(encode(prefix + part)) <= limit)

    def _settings(self, options: RewriteOptions) -> Mapping[str, Any]:
        known = self.known_settings()
        key = self.settings_key(options)
        return known.get(key, {}) if key is not None else {}

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

    def settings_key(self, _: RewriteOptions) -> str | None:
        return "summarization"

    def pieces(self, text: str, prefix: str) -> list[Piece]:
        return self.split(text, prefix)


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
            *first, last = self.split(paragraph.text, prefix)
            found += [*first, Piece(last.text, paragraph.gap)]
        return found


def _languages(key: str) -> tuple[str, str]:
    """``translation_en_to_de`` to ("en", "de")."""
    source, _, target = key.removeprefix("translation_").partition("_to_")
    return source, target


def _arrow(key: str) -> str:
    return " to ".join(_languages(key))
