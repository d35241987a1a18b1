"""May this request run at all? What cannot be honoured is refused before it takes a place.

Covers what is wrong with a request by itself. Not covered: whether there is room just now,
which is the queue's affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.engine.config import EngineConfig
from lmstack.engine.constraints.grammar import GrammarCompiler
from lmstack.engine.constraints.patterns import PatternCompiler
from lmstack.engine.constraints.vocabulary import GrammarVocabulary
from lmstack.engine.decoding.beams import BeamSearch
from lmstack.engine.decoding.logits_processors import PROCESSORS
from lmstack.engine.request import EngineRequest
from lmstack.engine.sequence import Sequence
from lmstack.model import TransformerConfig

__all__ = ["Admission"]


class Admission:
    """``context_length``: tokens that one sequence may have; below the model's window where the
    KV pool of ``num_blocks`` is smaller. ``draft``: of the model that reads prompts as well, None
    for none. Thread-safe."""

    def __init__(
        self,
        vocabulary: GrammarVocabulary,
        model: TransformerConfig,
        config: EngineConfig,
        context_length: int,
        num_blocks: int,
        draft: TransformerConfig | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        # Written are tokens that both have, read are all that the model has embeddings of.
        self._num_tokens = min(len(vocabulary), model.vocab_size)
        reading = (model.encoder or model, *([] if draft is None else [draft]))
        self._num_input_tokens = min(one.vocab_size for one in reading)
        self._hint = "take token ids from this model's tokenizer"
        if len(vocabulary) > model.vocab_size:
            self._hint = (
                f"the tokenizer has {len(vocabulary)} tokens and the model embeddings of"
                f" {model.vocab_size}: use the tokenizer that the model was trained with"
            )
        self._window, self._context_length = model.max_positions, context_length
        self._config, self._num_blocks = config, num_blocks
        self._encoder = model.encoder
        ropes = [spec.rope for spec in model.layers if spec.rope is not None]
        self._originals = [r.original_positions for r in ropes if r.depends_on_length]
        self.grammars = GrammarCompiler(vocabulary, config.max_grammar_bytes)
        self._patterns = PatternCompiler()

    def sequence(self, request: EngineRequest) -> Sequence:
        """The request as a sequence, or the error that says why not."""
        ids, sampling = request.prompt_ids, request.sampling
        if not ids:
            raise InputError("the prompt is empty", hint="give at least a token", param="prompt")
        self._check_all_tokens(request)
        width = sampling.num_beams
        if width > self._config.max_sequences:
            param = "num_beams" if sampling.num_beams > 1 else "top_k"
            raise InputError(
                f"{param} {width} is more than the {self._config.max_sequences} streams that run "
                "at once here",
                hint=f"lower {param}",
                param=param,
            )
        self._check_kind(request)
        _check_targets(request)
        begun = request.decoder_ids or ids
        blocks = self._num_blocks
        if self._encoder is not None:
            blocks -= self._config.blocks_for(len(ids))
            self._check_input(len(ids), blocks)
        longest = min(self._context_length, blocks // width * self._config.block_size)
        self._check_length(len(begun), 0 if request.targets else sampling.max_tokens, longest)
        limit = _limit(request, len(begun), longest)
        matcher = None
        if request.grammar is not None:
            matcher = self.grammars.compile(request.grammar, request.cache_scope)
        pattern = self._patterns.compile(sampling.stop_regex) if sampling.stop_regex else None
        sequence = Sequence(
            request, self._vocabulary, limit, matcher, pattern, self._rope_length(limit)
        )
        if sampling.num_beams > 1:
            BeamSearch(sequence)
        return sequence

    def _check_kind(self, request: EngineRequest) -> None:
        """Is this asked of the right kind of model?"""
        if self._encoder is None:
            if request.decoder_ids:
                raise UnsupportedError(
                    "this model has no encoder, so it takes no decoder_ids",
                    hint="give its tokens as the prompt",
                )
            return
        if request.echo:
            raise UnsupportedError(
                "echo is not possible: the prompt of an encoder-decoder is no part of its output",
                hint="leave echo out",
                param="echo",
            )
        if not request.decoder_ids:
            raise InputError(
                "the files of this encoder-decoder do not say what its output begins with",
                hint="set decoder_start_token_id in its generation_config.json",
                param="model",
            )

    def _check_input(self, count: int, blocks_left: int) -> None:
        assert self._encoder is not None
        window = self._encoder.max_positions
        if count > window or blocks_left < 1:
            place = f"the encoder reads {window}" if count > window else "the KV pool holds fewer"
            raise ContextLengthError(
                f"the prompt has {count} tokens, {place}",
                hint="shorten or split the text",
                param="prompt",
            )

    def _rope_length(self, limit: int) -> int | None:
        """What a sequence that may grow to ``limit`` tokens reckons with, from its first token to
        its last: the original length if it stays within, else the most that is possible here."""
        if not self._originals:
            return None
        original = min(self._originals)
        return original if limit <= original else self._context_length

    def _check_all_tokens(self, request: EngineRequest) -> None:
        # Nothing spells the tokens that the tokenizer does not know.
        readable = self._num_tokens if request.echo else self._num_input_tokens
        self._check_tokens("the prompt", "prompt", request.prompt_ids, readable)
        self._check_tokens("the decoder's beginning", "decoder_ids", request.decoder_ids)
        self._check_tokens("targets", "targets", request.targets)
        for each in PROCESSORS:
            self._check_tokens(each.param, each.param, each.tokens(request))
        if not all(request.bad_words):
            raise InputError(
                "bad_words holds an empty word", hint="give each word tokens", param="bad_words"
            )

    def _check_tokens(
        self, what: str, param: str, ids: Iterable[int], count: int | None = None
    ) -> None:
        """``count``: of the vocabulary, the output's unless given."""
        count = self._num_tokens if count is None else count
        for token in ids:
            if not 0 <= token < count:
                raise InputError(
                    f"{what} has token {token}, outside [0, {count})",
                    hint=self._hint,
                    param=param,
                )

    def _check_length(self, num_prompt: int, max_tokens: int | None, longest: int) -> None:
        total = num_prompt + (1 if max_tokens is None else max_tokens)
        if total <= longest:
            return
        asked = f" and max_tokens {max_tokens}" if max_tokens else ""
        if longest < self._context_length:
            place, hint = "each text of this search may have", "search for fewer at once"
        elif longest == self._window:
            place, hint = "the model's context window has", "shorten the prompt"
        else:
            place, hint = "the KV pool holds", "shorten the prompt"
        raise ContextLengthError(
            f"the prompt has {num_prompt} tokens{asked}, {place} {longest}",
            hint=f"{hint} or lower max_tokens" if max_tokens else hint,
            param="max_tokens" if num_prompt < longest else "prompt",
        )


def _limit(request: EngineRequest, begun: int, longest: int) -> int:
    """Tokens of the whole text, prompt included. A limit by default gives way to the context's
    end and to ``min_tokens``; a stated one has been checked."""
    stated, default = request.sampling.max_tokens, request.default_max_tokens
    if request.targets:
        return begun
    if stated is not None:
        return begun + stated
    if default is None:
        return longest
    return min(longest, begun + max(default, request.sampling.min_tokens))


def _check_targets(request: EngineRequest) -> None:
    if request.targets and (request.grammar is not None or request.sampling.num_beams > 1):
        raise InputError(
            "a request with targets generates nothing, and it has a grammar or searches",
            hint="leave out targets, or the grammar and num_beams",
            param="targets",
        )
