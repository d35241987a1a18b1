"""What goes into the engine and what comes out: one request, its events, the counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import FinishReason, Grammar, LmstackError, SamplingParams

__all__ = ["EngineAdapter", "EngineRequest", "EngineStats", "TokenEvent", "TokenScore"]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """``logprob``: natural logarithm of the token's probability under the model itself, before
    penalties, bias, grammar and temperature, unless `EngineRequest.scored_at` names one; None for
    a first token, which nothing precedes. ``top``: the most likely (token, logprob) at that place,
    best first."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One step of one request; the last one carries ``finish_reason`` or ``error``.

    ``token``: None where the event is an error, or the request generates nothing. ``score``: set
    when log-probabilities were asked for. ``safe_bytes``: how many bytes of the output so far no
    stop string can take back; on the last event, the length of the output. ``choice``: which of a
    beam search's texts, the best first; they come at its end. ``cached_tokens``: prompt tokens
    found in the prefix cache. ``prompt``: scores of the prompt, on the first event, if they were
    asked for. ``targets``: scores of those of the request, whose only event this is.
    ``drafted_tokens``, ``accepted_tokens``: of this request so far, tokens that were computed
    before they were drawn, and those of them that were then drawn.
    """

    request_id: str
    token: int | None = None
    score: TokenScore | None = None
    safe_bytes: int = 0
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    prompt: tuple[TokenScore, ...] = ()
    targets: tuple[TokenScore, ...] = ()
    error: LmstackError | None = None
    choice: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, eq=False)
class EngineAdapter:
    """A LoRA adapter that requests of one engine may have, made by `Engine.open_adapter`. Lives as
    long as somebody holds it, so requests that have it go on when nobody else does.

    ``digest``: of its files. ``rank``: the largest of its terms. ``num_parameters``: in all of
    them. ``number``: one of its own. The rest is the engine's: ``prepared`` for its executor, of
    weights that had been replaced ``num_updates`` times.
    """

    digest: str
    rank: int
    num_parameters: int
    number: int
    prepared: Any
    num_updates: int
    engine: Any

    @property
    def nbytes(self) -> int:
        """Memory that it takes beside the model."""
        return int(self.prepared.nbytes)


@dataclass(frozen=True)
class EngineRequest:
    """One choice to generate. ``on_event`` is called in the engine's thread and must be quick.

    Of an encoder-decoder ``prompt_ids`` are what the encoder reads, and ``decoder_ids`` what the
    decoder begins with, which is no part of its output.

    ``echo`` with ``sampling.logprobs`` scores the prompt too, from token ``score_from`` on; what
    comes before may be taken from the cache. ``targets``: tokens to score as what may follow the
    prompt; nothing is generated then, whatever ``sampling`` says. ``stop_ids`` end the text like
    the vocabulary's own ends, whatever ``ignore_eos`` says. ``sampling.n`` counts only in beam
    search, where one request finds all its choices. ``bad_words`` are those
    of ``sampling`` as token ids: runs that may not come.
    ``allowed_tokens``: given the tokens so far, those that may come next.

    ``default_max_tokens``: the most tokens where ``sampling.max_tokens`` is None; fewer where the
    context ends before.

    ``cache_scope``: blocks are shared within one scope only, so that how soon an answer comes
    tells nothing of what was asked in another.

    ``adapter``: what is added to the model for this request. Blocks are shared between requests
    with the same adapter only.

    ``scored_at``: the temperature of the distribution that scores of drawn tokens are of.

    ``client``: who asks; when many do, each gets its share. ``sampling.priority`` orders the
    requests of one client.
    """

    id: str
    prompt_ids: tuple[int, ...]
    on_event: Callable[[TokenEvent], None]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: Grammar | None = None
    echo: bool = False
    stop_ids: frozenset[int] = frozenset()
    bad_words: tuple[tuple[int, ...], ...] = ()
    decoder_ids: tuple[int, ...] = ()
    allowed_tokens: Callable[[tuple[int, ...]], Iterable[int]] | None = None
    client: str = ""
    cache_scope: str = ""
    score_from: int = 0
    targets: tuple[int, ...] = ()
    default_max_tokens: int | None = None
    adapter: EngineAdapter | None = None
    scored_at: float = 1.0

    @property
    def scores_prompt(self) -> bool:
        return self.echo and self.sampling.logprobs is not None


@dataclass(frozen=True)
class EngineStats:
    """A snapshot; ``num_*`` without further words count since the start. ``num_adapters``: those
    that somebody holds. ``prefix_hit_rate``: the
    share of prompt tokens that came out of the prefix cache; ``draft_acceptance_rate``: that of
    drafted tokens which were right; ``grammar_compile_s``: how long the grammar that is being
    compiled longest has been."""

    dtype: str
    context_length: int
    num_running: int
    num_waiting: int
    num_blocks: int
    num_blocks_used: int
    num_blocks_cached: int
    num_prompt_tokens: int
    num_generated_tokens: int
    num_prefix_queries: int
    num_prefix_hits: int
    prefix_hit_rate: float
    num_draft_tokens: int
    num_accepted_tokens: int
    draft_acceptance_rate: float
    num_preemptions: int
    num_steps: int
    num_weight_updates: int
    num_invariant_failures: int
    num_adapters: int
    num_adapter_bytes: int
    grammar_compile_s: float
    num_finished: Mapping[str, int]
