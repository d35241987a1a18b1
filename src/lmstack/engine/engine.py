"""The engine: requests in from any thread, tokens out through callbacks, one step at a time.

A step schedules chunks, runs the model, samples, and reports. `start` runs steps in a thread
of its own; without it a caller drives `step` by hand. What a request did wrong, or what goes
wrong for it, reaches that request alone: its blocks are freed and the others go on.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from functools import partial
from pathlib import Path

from torch import Tensor

from lmstack.core import EngineError, InputError, LmstackError
from lmstack.engine.blocks import BlockManager
from lmstack.engine.config import EngineConfig
from lmstack.engine.constraints.grammar import GrammarMatcher
from lmstack.engine.constraints.masks import MaskFiller
from lmstack.engine.constraints.vocabulary import GrammarVocabulary
from lmstack.engine.decoding.sampler import Sampled, Sampler, rows_at
from lmstack.engine.executor import Executor
from lmstack.engine.executors import EXECUTORS, open_executor
from lmstack.engine.inbox import Inbox, WeightUpdate, members_of
from lmstack.engine.policy.admission import Admission
from lmstack.engine.request import EngineAdapter, EngineRequest, EngineStats, TokenEvent
from lmstack.engine.runner import Computed, Runner
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.scratch import Scratch
from lmstack.engine.sequence import Search, Sequence, SequenceChunk
from lmstack.engine.speculative.draft_model import DraftModel
from lmstack.engine.speculative.speculate import Speculation
from lmstack.model import Transformer
from lmstack.model.formats.assembly import Weight
from lmstack.model.lora.terms import read_terms
from lmstack.model.replacing import replace_weights

__all__ = ["Engine"]

log = logging.getLogger("lmstack.engine")


class Engine:
    """Thread-safe: `submit`, `cancel`, `stats`, `close`. Callbacks run in the stepping thread.

    ``context_length``: tokens that one sequence may have, prompt and output together; the
    model's window, or the KV pool where that is smaller. ``numerics``: see `Executor`.
    ``weight_version``: what the last weights that replaced others were called; in a callback, those
    that computed its event.
    ``after_events`` is called once the callbacks of a step are done. ``grammars`` compiles, for
    who wants to before `submit` has to. ``clock``: seconds, monotonic. ``draft``: a smaller model
    with the same tokens, which says what may come next.
    """

    def __init__(
        self,
        module: Transformer,
        vocabulary: GrammarVocabulary,
        config: EngineConfig | None = None,
        *,
        draft: Transformer | None = None,
        executors: Seq[type[Executor]] = EXECUTORS,
        after_events: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config = config or EngineConfig()
        model = module.config
        self._num_tokens = min(len(vocabulary), model.vocab_size)
        executor, num_blocks = open_executor(module, config, executors)
        self.context_length = min(model.max_positions, num_blocks * config.block_size)
        self._dtype, self.numerics = executor.dtype, executor.numerics
        self._module = module
        self._executor, self._runner = executor, Runner(module, executor)
        self._scratch = Scratch(executor.device)
        self._blocks = BlockManager(num_blocks, config.block_size, prefix_cache=config.prefix_cache)
        self._scheduler = Scheduler(config, self._blocks)
        self._sampler = Sampler(self._num_tokens)
        self._masks = MaskFiller(self._num_tokens)
        drafts = None
        if draft is not None:
            drafts = DraftModel(draft, config, self._num_tokens, clock, executors)
        self._speculation = Speculation(config, self._blocks, self._scheduler.budget, drafts)
        self._admission = Admission(
            vocabulary,
            model,
            config,
            self.context_length,
            num_blocks,
            None if draft is None else draft.config,
        )
        self.grammars = self._admission.grammars

        self._after_events, self._clock = after_events, clock
        self._inbox = Inbox(config, self._scheduler)
        self._live = self._inbox.live
        self._thread: threading.Thread | None = None

        self._num_steps = self._num_prompt = self._num_generated = 0
        self._num_invariant_failures = self._num_updates = 0
        self.weight_version = ""
        self._adapter_numbers, self._adapters_lock = itertools.count(), threading.Lock()
        self._adapters: weakref.WeakSet[EngineAdapter] = weakref.WeakSet()

    # -- from any thread ---------------------------------------------------------------------

    def submit(self, *requests: EngineRequest) -> None:
        """Queue all of ``requests`` or none. Raises `InputError` for what cannot be honoured,
        `ContextLengthError` for what cannot fit, `OverloadedError` when the queue is full."""
        for request in requests:
            self._check_adapter(request)
        self._inbox.submit([self._admission.sequence(r) for r in requests])

    def open_adapter(self, folder: Path | str) -> EngineAdapter:
        """The LoRA adapter in ``folder``, for requests of this engine. Runs in the caller's thread
        while steps go on. Errors: those of `read_terms`; `InputError`: it does not fit into the
        memory for adapters."""
        num_updates = self._num_updates
        terms = read_terms(self._module, folder)
        adapter = EngineAdapter(
            terms.digest,
            terms.rank,
            terms.num_parameters,
            next(self._adapter_numbers),
            self._executor.prepared(terms),
            num_updates,
            self,
        )
        with self._adapters_lock:
            held, most = self._adapter_bytes(), self.config.adapter_memory_bytes
            if held + adapter.nbytes > most:
                raise InputError(
                    f"the adapter takes {adapter.nbytes:,} bytes, and {held:,} of the {most:,} for"
                    " adapters are taken",
                    hint="unload another, or start the server with a larger --adapter-memory",
                )
            self._adapters.add(adapter)
        return adapter

    def _adapter_bytes(self) -> int:
        """Of those that somebody still holds, a request included."""
        return sum(adapter.nbytes for adapter in list(self._adapters))

    def _check_adapter(self, request: EngineRequest) -> None:
        adapter = request.adapter
        if adapter is None:
            return
        if adapter.engine is not self:
            raise InputError(
                "the adapter was opened for another engine",
                hint="open it again for this one",
                param="adapter",
            )
        if adapter.num_updates != self._num_updates:
            raise InputError(
                "the model's weights were replaced after the adapter was opened",
                hint="open it again",
                param="adapter",
            )

    def cancel(self, request_id: str) -> None:
        """Stop a request without a further event; unknown or finished ids are ignored. Its
        blocks are free before the next step."""
        self._inbox.cancel(request_id)

    def update_weights(self, weights: Mapping[str, Weight], version: str = "") -> None:
        """Replace ``weights``, some or all of the model's, between two steps (`replace_weights`).

        Requests that have begun end under the old ones, and those that wait begin under the new:
        each is computed by one set of weights, and nothing that the old ones made is found in the
        prefix cache again. Returns when the new ones are in place. Where no thread of the engine
        runs, takes the steps that are needed. `InputError`: they do not fit, and nothing changed.
        `EngineError`: replacing them failed half way, and the engine takes no more requests.
        """
        if self._thread is threading.current_thread():
            raise EngineError(
                "update_weights would wait for ever in the engine's own thread",
                hint="call it from another thread",
            )
        update = WeightUpdate(weights, version)
        self._inbox.ask(update)
        if self._thread is None:
            while not update.done.is_set():
                self.step()
        update.done.wait()
        if update.error is not None:
            raise update.error

    def stats(self) -> EngineStats:
        scheduler = self._scheduler
        with self._inbox.lock, self._adapters_lock:
            return EngineStats(
                dtype=self._dtype,
                context_length=self.context_length,
                num_running=len(scheduler.running),
                num_waiting=self._inbox.num_waiting,
                num_blocks=self._blocks.num_blocks,
                num_blocks_used=self._blocks.num_used,
                num_blocks_cached=self._blocks.num_cached,
                num_prompt_tokens=self._num_prompt,
                num_generated_tokens=self._num_generated,
                num_prefix_queries=scheduler.num_prefix_queries,
                num_prefix_hits=scheduler.num_prefix_hits,
                prefix_hit_rate=scheduler.num_prefix_hits / max(1, scheduler.num_prefix_queries),
                num_draft_tokens=self._speculation.num_drafted,
                num_accepted_tokens=self._speculation.num_accepted,
                draft_acceptance_rate=self._speculation.acceptance_rate,
                num_preemptions=scheduler.num_preemptions,
                num_steps=self._num_steps,
                num_weight_updates=self._num_updates,
                num_invariant_failures=self._num_invariant_failures,
                num_adapters=len(self._adapters),
                num_adapter_bytes=self._adapter_bytes(),
                grammar_compile_s=self.grammars.compiling_s(),
                num_finished=dict(self._inbox.finished),
            )

    def start(self) -> None:
        """Run steps in a thread of the engine's own until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="lmstack-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop after the step that is running; what has not finished gets an `EngineError`."""
        self._inbox.close(EngineError("the engine is closed"))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.grammars.close()
        self._masks.close()
        self._take_in()
        self._end_all(
            EngineError("the engine was closed before the answer was whole"),
            EngineError("the engine was closed before the weights changed"),
        )

    # -- the stepping thread -----------------------------------------------------------------

    def step(self) -> bool:
        """Advance every stream once; whether work remains."""
        self._take_in()
        self._update()
        start = self._clock()
        chunks = _by_adapter(self._speculation.extend(self._scheduler.schedule()))
        if chunks:
            self._num_steps += 1
            self._executor.copy(self._scheduler.copies)
            self._advance(chunks)
            self._after_events()
            drafting_s = self._speculation.drafting_s
            self._scheduler.budget.observe(self._clock() - start - drafting_s)
            self._take_in()
        if self._scheduler.idle:
            self._check_idle()
            return False
        return True

    def _loop(self) -> None:
        while self._inbox.wait():
            try:
                self.step()
            except Exception as error:  # a bug of ours: nobody may be left waiting
                log.exception("a step failed")
                self._fail_all(EngineError(f"the engine failed: {error}"))

    def _update(self) -> None:
        """Take in other weights once nothing that has begun is left."""
        update = self._inbox.update
        self._scheduler.holds = update is not None
        if update is None or self._scheduler.has_begun:
            return
        self._check_idle()
        before = self._num_updates
        try:
            replace_weights(self._module, update.weights)
            # First: nothing of the old weights may be found, even where what follows fails.
            self._scheduler.forget_prefixes()
            self._num_updates += 1
            self.weight_version = update.version
            self._executor.reload()
            self._refuse_stale()
        except LmstackError as error:
            if self._num_updates == before:
                self._inbox.updated(error)  # they do not fit, and nothing has changed
            else:
                self._break(error)
        except Exception as error:
            self._break(error)
        else:
            self._inbox.updated()
        self._scheduler.holds = False

    def _break(self, error: Exception) -> None:
        """New weights lie beside what was made of the old ones: compute nothing with them."""
        log.error("replacing the weights failed half way", exc_info=error)
        broken = EngineError(
            f"replacing the weights failed half way, so the engine stopped: {error}",
            hint="load the model again",
        )
        self._inbox.close(broken)
        self._take_in()
        self._end_all(broken, broken)

    def _refuse_stale(self) -> None:
        """Requests that wait with an adapter of the weights of before: there may be no such terms
        on the new ones."""
        for sequence in list(self._scheduler.waiting):
            try:
                self._check_adapter(sequence.request)
            except InputError as error:
                self._fail(sequence, error)

    def _take_in(self) -> None:
        """Take in what other threads asked for."""
        for sequence, error in self._inbox.take():
            self._end(sequence, "refused", error)

    def _advance(self, chunks: Seq[SequenceChunk]) -> None:
        """Compute ``chunks``; if that fails, one by one, to find whose fault it is. Nothing of
        a sequence has changed by then, and computing a slot twice is harmless."""
        try:
            self._masks.begin([m for c in chunks if (m := _matcher_of(c)) is not None])
            computed = self._runner.run(chunks, self._num_tokens, self._scratch)
            sampled = self._first_tokens(chunks, computed)
        except Exception as error:
            if len(chunks) == 1 and not chunks[0].draft:
                self._fail(chunks[0].sequence, _as_error(error))
                return
            for chunk in chunks:
                if chunk.sequence.request.id in self._live:  # else it failed with its search
                    self._advance([self._speculation.without_draft(chunk)])
            return
        for chunk, token in zip(chunks, sampled, strict=True):
            if chunk.sequence.request.id not in self._live:
                continue
            self._guarded(chunk.sequence, partial(self._commit, chunk, token))
        if len(computed.drafted):
            self._verify(chunks, computed)
        # Not before all are committed: members of a search are often computed side by side.
        searches = {id(c.sequence.search): c.sequence.search for c in chunks}
        for search in searches.values():
            if search is not None and search.root.request.id in self._live and search.is_ready:
                self._guarded(search.root, partial(self._decide, search))

    def _guarded(self, sequence: Sequence, work: Callable[[], None]) -> None:
        """What goes wrong in ``work`` is the end of this sequence's request alone."""
        try:
            work()
        except Exception as error:
            self._fail(sequence, _as_error(error))

    def _first_tokens(self, chunks: Seq[SequenceChunk], computed: Computed) -> list[Sampled | None]:
        """What comes after the tokens that each chunk is known to have."""
        tokens = iter(self._sampled(computed, [c.sequence for c in chunks if c.samples]))
        for chunk, new in zip(chunks, computed.scores, strict=True):
            if new:
                chunk.sequence.take_scores(new)
        return [next(tokens) if c.samples else None for c in chunks]

    def _sampled(self, computed: Computed, sequences: list[Sequence]) -> list[Sampled | None]:
        """A token for each row; None for members of a search, which get an offer instead."""
        if not sequences:
            return []
        if all(s.search is None for s in sequences):
            return [*self._sampler(computed.logits, sequences)]
        drawn = [i for i, s in enumerate(sequences) if s.search is None]
        offered = [i for i, s in enumerate(sequences) if s.search is not None]
        self._sampler.offer(rows_at(computed.logits, offered), [sequences[i] for i in offered])
        tokens: list[Sampled | None] = [None] * len(sequences)
        if drawn:
            rows = rows_at(computed.logits, drawn)
            picks = self._sampler(rows, [sequences[i] for i in drawn])
            for i, pick in zip(drawn, picks, strict=True):
                tokens[i] = pick
        return tokens

    def _commit(self, chunk: SequenceChunk, sampled: Sampled | None) -> None:
        sequence = chunk.sequence
        self._scheduler.computed(chunk)
        if sampled is not None:
            self._append(sequence, sampled)
        elif sequence.is_read:
            self._num_prompt += sequence.num_input
            self._inbox.over(sequence, "length")
            sequence.request.on_event(sequence.read_event())

    def _append(self, sequence: Sequence, sampled: Sampled) -> None:
        reason = sequence.append(sampled.token)
        first = sequence.num_output == 1
        self._num_generated += 1
        self._num_prompt += sequence.num_input if first else 0
        event = sequence.event(sequence.num_output - 1, sampled.score, reason)
        if reason is not None:
            self._inbox.over(sequence, reason)
        sequence.request.on_event(event)

    def _verify(self, chunks: Seq[SequenceChunk], computed: Computed) -> None:
        """Draw on where drafts are right, each token as if it were computed alone."""
        drafted = [c for c in chunks if c.draft]
        starts = itertools.accumulate((len(c.draft) for c in drafted), initial=0)
        going = list(zip(drafted, starts, strict=False))
        for place in itertools.count():
            going = [(c, row) for c, row in going if self._goes_on(c, place)]
            if not going:
                break
            rows = [row + place for _, row in going]
            self._draw_on(computed.drafted, rows, [c.sequence for c, _ in going])
        for chunk in computed.unsound:
            if chunk.sequence.table:  # else it is over
                # A wrong token may have left in its blocks what would spoil the right ones.
                self._executor.wipe(chunk.sequence.table[chunk.sequence.num_published :])
                self._scheduler.start_again(chunk.sequence)
                self._speculation.stop(chunk.sequence)

    def _goes_on(self, chunk: SequenceChunk, place: int) -> bool:
        """Whether the last token that was drawn is that of the draft at ``place``."""
        sequence = chunk.sequence
        if self._inbox.is_going_on(sequence) and chunk.is_right(place):
            self._speculation.accepted(chunk)
            self._scheduler.accepted(sequence)
            return True
        self._speculation.settle(chunk, place)
        return False

    def _draw_on(self, logits: Tensor, rows: Seq[int], sequences: Seq[Sequence]) -> None:
        try:
            tokens = self._sampler(rows_at(logits, rows), sequences)
        except Exception as error:
            if len(rows) == 1:
                self._fail(sequences[0], _as_error(error))
                return
            for row, sequence in zip(rows, sequences, strict=True):
                self._draw_on(logits, [row], [sequence])
            return
        for sequence, token in zip(sequences, tokens, strict=True):
            self._guarded(sequence, partial(self._append, sequence, token))

    def _decide(self, search: Search) -> None:
        """All members of a search are computed: take its next step."""
        before, root = search.members, search.root
        result = search.advance()
        if before[0] is root:
            self._num_prompt += root.num_input
        self._num_generated += len(result.events)
        if result.children:
            self._executor.copy(self._scheduler.replace(before, result.children))
        else:
            for member in before:
                self._scheduler.remove(member)
            self._inbox.over(root, result.events[-1].finish_reason or "stop")
        for event in result.events:
            root.request.on_event(event)

    def _fail(self, sequence: Sequence, error: LmstackError) -> None:
        if sequence.request.id not in self._live:
            log.warning("request %s: its callback failed: %s", sequence.request.id, error)
            return
        log.warning("request %s failed: %s", sequence.request.id, error)
        for member in members_of(sequence):
            # Blocks before these are published, so others may be reading them.
            self._executor.wipe(member.table[member.num_published :])
            if not member.is_encoded:
                self._executor.wipe(member.cross_table)
            self._scheduler.remove(member, forget=True)
        self._end(sequence, "error", error)

    def _end(self, sequence: Sequence, reason: str, error: LmstackError) -> None:
        """The last event of ``sequence`` is ``error``."""
        self._inbox.over(sequence, reason)
        try:
            sequence.request.on_event(TokenEvent(sequence.request.id, error=error))
        except Exception:
            log.exception("request %s: its callback failed", sequence.request.id)

    def _fail_all(self, error: EngineError) -> None:
        self._take_in()
        self._end_all(error)

    def _end_all(self, error: EngineError, update_error: EngineError | None = None) -> None:
        """Every request ends by ``error``, and every update that waits by ``update_error``."""
        for sequence in list(self._live.values()):
            self._fail(sequence, error)
        while update_error is not None and self._inbox.update is not None:
            self._inbox.updated(update_error)
        self._after_events()

    def _check_idle(self) -> None:
        """With nobody running, every block must be back."""
        self._speculation.rest()
        try:
            self._blocks.check([])
        except AssertionError as error:
            self._num_invariant_failures += 1
            log.critical("KV blocks leaked, the pool is reset: %s", error)
            self._blocks.reset()


def _matcher_of(chunk: SequenceChunk) -> GrammarMatcher | None:
    """That of a chunk whose next token is drawn under a grammar."""
    sequence = chunk.sequence
    return sequence.matcher if chunk.samples and sequence.search is None else None


def _by_adapter(chunks: list[SequenceChunk]) -> list[SequenceChunk]:
    """``chunks``, those of one token first, of one adapter side by side: a kernel then reads its
    numbers once for several rows."""
    if all(chunk.sequence.request.adapter is None for chunk in chunks):
        return chunks

    def place(chunk: SequenceChunk) -> tuple[bool, int]:
        adapter = chunk.sequence.request.adapter
        return chunk.count > 1, -1 if adapter is None else adapter.number

    return sorted(chunks, key=place)


def _as_error(error: Exception) -> LmstackError:
    if isinstance(error, LmstackError):
        return error
    return EngineError(
        f"computing the answer failed: {type(error).__name__}: {error}",
        hint="try the request again; if it persists, look at the server's log",
    )
