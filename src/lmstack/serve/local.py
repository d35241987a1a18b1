"""A language model on this machine, behind core's `ChatModel`.

Joins tokenizer, chat template and engine: messages to ids, a stream of engine events to a
stream of text. `open_model` is what `lmstack.load` gives. Not covered: HTTP, limits and guards,
which wrap this from outside.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from lmstack.core import (
    Completion,
    Delta,
    Grammar,
    InputError,
    Likelihood,
    LmstackError,
    Message,
    ModelInfo,
    Request,
    TextWindows,
    Timings,
    UnsupportedError,
    Usage,
    complete_sync,
)
from lmstack.engine import (
    Engine,
    EngineAdapter,
    EngineConfig,
    EngineRequest,
    EngineStats,
    GrammarVocabulary,
    TokenEvent,
    check_vocabularies,
    native_problem,
)
from lmstack.registry import DEFAULT_SAMPLING, LoadedModel, ModelFolder, Store, load
from lmstack.registry.adapters import base_of
from lmstack.registry.weight_cache import has_blocks, requested_form, stored_form, updated_digest
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.forms import check_memory, slow_form, usual_form
from lmstack.serve.likelihoods import Likelihoods
from lmstack.serve.threads import Bridge, Mailbox, RoundRobinThread, in_any_thread
from lmstack.serve.tokens import (
    ChoiceText,
    bad_words,
    choices_of,
    prompt_ids,
    request_of,
    token_logprob,
    with_defaults,
)
from lmstack.serve.tool_calls import calls_of

__all__ = ["LocalModel", "load_draft", "load_weights", "open_model"]

log = logging.getLogger("lmstack.serve")

# The choice, its event, and the digest of the weights that computed it.
Events = Mailbox[tuple[int, TokenEvent, str | None]]


class LocalModel:
    """Thread-safe; one engine serves all streams, from any number of event loops.

    A seed gives the same tokens for the same request; in bfloat16 the last bits of a logit may
    depend on how many streams share a step. ``draft``: a smaller model with the same tokens, which
    says what may come next; it changes the speed alone.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        engine: EngineConfig | None = None,
        *,
        draft: LoadedModel | None = None,
    ) -> None:
        if loaded.pooling is not None:
            raise UnsupportedError(
                f"{loaded.name} makes sentence vectors and does not generate text",
                hint="use a language model, for example smollm2-135m-instruct",
                param="model",
            )
        self._loaded = loaded
        self.module, self.tokenizer = loaded.module, loaded.tokenizer
        self.template, self._eos_ids = loaded.template, loaded.generation.eos_ids
        self._encodes = loaded.module.config.encoder is not None
        vocabulary = _vocabulary(loaded)
        if draft is not None:
            check_vocabularies(vocabulary, _vocabulary(draft))
        self._bridge = Bridge()
        self._engine = Engine(
            self.module,
            vocabulary,
            engine,
            draft=None if draft is None else draft.module,
            after_events=self._bridge.flush,
        )
        self._engine.start()
        self._defaults = loaded.generation.sampling.over(DEFAULT_SAMPLING)
        context = self._engine.context_length
        self._info = ModelInfo(
            loaded.name,
            loaded.digest and loaded.digest + self._engine.numerics,
            context,
            self._defaults.stated(),
            parameters=loaded.parameters,
            reacts=loaded.traits.reacts,
        )
        self._adapter: EngineAdapter | None = None
        self._likelihoods = Likelihoods(self._engine, self.tokenizer, self._bridge)
        self._numbers = itertools.count()
        self._updating = threading.Lock()
        self._digests: dict[str, str | None] = {}  # by that of the content of weights
        self._compiling = RoundRobinThread("lmstack-grammars")
        # Also when nobody closes: the threads must not outlive the interpreter's end.
        self._finalizer = weakref.finalize(self, _close, self._compiling, self._engine)

    @classmethod
    def load(
        cls,
        ref: str | os.PathLike[str] | ModelFolder,
        *,
        store: Store | None = None,
        weights: str | None = None,
        dtype: str | torch.dtype | None = None,
        engine: EngineConfig | None = None,
        draft: str | os.PathLike[str] | ModelFolder | None = None,
    ) -> Self:
        """The model that ``ref`` names (no network).

        ``weights``: the form in which they are held: ``file`` (the blocks of a GGUF file; the
        default where it has some), ``bfloat16`` (the default elsewhere), ``int8``, ``q4``,
        ``nf4`` or ``float32`` (the default of floats on a processor that multiplies bfloat16
        slowly), which computes with the reference ops and is what to compare with other
        implementations. ``dtype``: another way to name a float form. ``draft``: the name of a
        smaller model, see `load_draft`.
        """
        device = "cpu" if engine is None else engine.device
        loaded = load_weights(ref, store, weights, dtype, device=device)
        return cls(loaded, engine, draft=load_draft(draft, store))

    # -- generating ----------------------------------------------------------------------------

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """As in core's `ChatModel`. Text never holds a stop string nor a part of one that would
        have to be taken back; `ContextLengthError` instead of a prompt that is cut."""
        start = time.monotonic()
        events: Events = self._bridge.mailbox()
        calls = None
        if request.tools:
            # The first time, a template is asked how it writes calls.
            asked_for = partial(calls_of, request, self.template, self.tokenizer)
            calls = await asyncio.to_thread(asked_for, encodes=self._encodes)
        grammar = request.grammar if calls is None else calls.grammar
        ids, asked = await self._submitted(request, grammar, events)
        try:
            ends = self._eos_ids | asked[0].stop_ids
            choices = [
                ChoiceText(
                    i,
                    self.tokenizer,
                    ends,
                    begins=self._encodes,
                    scores_end=request.echo,
                    calls=None if calls is None else calls.reader(),
                )
                for i in range(request.sampling.n)
            ]
            first_token_s, cached, running = 0.0, 0, len(choices)
            while running:
                index, event, digest = await events.get()
                if event.error is not None:
                    raise event.error
                first_token_s = first_token_s or time.monotonic() - start
                choices[index].digest = digest
                if choices[index].num_tokens == 0:
                    cached = event.cached_tokens if index == 0 else cached
                    if request.echo:
                        yield self._echoed(request, index, ids, event)
                for delta in choices[index].deltas(event):
                    yield delta
                running -= event.finish_reason is not None
            usage = Usage(len(ids), sum(c.num_tokens for c in choices), cached)
            timings = Timings(first_token_s, time.monotonic() - start)
            yield Delta(usage=usage, timings=timings, digest=digest)
        finally:
            for r in asked:
                self._engine.cancel(r.id)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        *,
        grammar: Grammar | None = None,
        **sampling: Any,
    ) -> str:
        """The answer to a text, token ids or messages, all at once. ``sampling``: fields of
        `SamplingParams`; what is not stated is ``info.default_sampling``. For usage and
        log-probabilities: `complete`."""
        params = self._defaults.resolve(sampling)
        if params.n != 1:
            raise InputError(
                f"generate gives one text, n is {params.n}",
                hint="use complete(prompt, n=...)",
                param="n",
            )
        return self.complete(prompt, grammar=grammar, **sampling).text

    def complete(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        *,
        grammar: Grammar | None = None,
        **sampling: Any,
    ) -> Completion:
        """As `generate`, with all choices, usage, timings and log-probabilities."""
        request = request_of(prompt, self._defaults.resolve(sampling), grammar)
        return in_any_thread(partial(complete_sync, self, request))

    async def likelihoods(
        self, pairs: Sequence[tuple[str, str]], *, client: str = "local", cache_scope: str = ""
    ) -> list[Likelihood]:
        """As in core's `LikelihoodModel`, by the tokens of lm-evaluation-harness for causal models.
        What this model answers otherwise goes on meanwhile; where the engine's queue is full, this
        waits. ``client`` and ``cache_scope`` as those of a `Request`."""
        self._check_scores()
        return await self._likelihoods.of(pairs, self._adapter, client, cache_scope)

    async def text_likelihoods(
        self,
        text: str,
        windows: TextWindows,
        *,
        add_special_tokens: bool = False,
        client: str = "local",
        cache_scope: str = "",
    ) -> list[Likelihood]:
        """As in core's `TextLikelihoodModel`; ``windows`` is told how many positions the model
        has, however many this engine can hold."""
        self._check_scores()
        return await self._likelihoods.of_text(
            text,
            windows,
            self.module.config.max_positions,
            self._adapter,
            client,
            cache_scope,
            add_special_tokens=add_special_tokens,
        )

    def _check_scores(self) -> None:
        if self._encodes:
            raise UnsupportedError(
                f"{self._info.name} is an encoder-decoder, and likelihoods are of decoders only",
                hint="use a language model, for example smollm2-135m-instruct",
                param="model",
            )

    def render_chat(self, messages: Sequence[Message]) -> str:
        """As in core's `ChatRenderer`. A message that spells a control token looks like one in
        the text: send messages, not this, where others wrote them."""
        if self.template is None:
            raise UnsupportedError(
                f"{self._info.name} has no chat template",
                hint="use a chat model, or ask it without chat",
                param="model",
            )
        return self.template.render(messages)

    # -- weights -------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        """Name, digest and limits. The digest is that of the weights that answer now."""
        return dataclasses.replace(self._info, digest=self._digest())

    def _digest(self) -> str | None:
        """Of the weights that answer; in the engine's thread those that computed its event."""
        return self._engine.weight_version or self._info.digest

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Replace ``weights``, some or all of the model's by the names of ``module``, while it
        serves: see `Engine.update_weights`. From then on ``info.digest`` names what the model
        computes with, by its content; weights that were there before have the name of before.
        Adapters have to be opened again."""
        with self._updating:
            module, form = self.module, self._loaded.form
            if not self._digests:
                self._digests[updated_digest(module, form, {})] = self._info.digest
            content = updated_digest(module, form, weights)
            new = self._digests.get(content, content + self._engine.numerics)
            self._engine.update_weights(weights, new or "")
            self._digests[content] = new

    # -- the rest ------------------------------------------------------------------------------

    def with_adapter(
        self, folder: str | os.PathLike[str], name: str | None = None, *, owns_base: bool = False
    ) -> AdaptedModel:
        """This model with the LoRA adapter in ``folder``, a folder of PEFT. Both answer at once,
        and any number of others with theirs, in the same batches. ``name``: that of the folder
        unless given. ``owns_base``: closing it closes this model too. `UnsupportedError`: the
        adapter has to be merged."""
        path = Path(folder)
        adapter = self._engine.open_adapter(path)
        return AdaptedModel(self, name or path.resolve().name, adapter, owns_base=owns_base)

    @property
    def loaded(self) -> LoadedModel:
        """What this model was made from: module, tokenizer, template and what its files state."""
        return self._loaded

    def stats(self) -> EngineStats:
        """Figures of the engine."""
        return self._engine.stats()

    def save(self, folder: str | Path) -> None:
        """Write a folder that transformers loads: config, weights, tokenizer, template."""
        self._loaded.save(folder)

    def close(self) -> None:
        """Stop the engine; what is running ends with an `EngineError`."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------

    async def _submitted(
        self, request: Request, grammar: Grammar | None, events: Events
    ) -> tuple[tuple[int, ...], list[EngineRequest]]:
        """Prompt ids and the engine's requests, one a choice. Tokenizing and compiling a grammar
        take time, so they run beside the loop."""
        scope, grammars = request.cache_scope, self._engine.grammars
        abandoned = threading.Event()
        if grammar is not None and grammars.takes_long(grammar, scope):
            compiled = partial(grammars.compile, grammar, scope, abandoned)
            try:
                await asyncio.wrap_future(self._compiling.submit(request.client, compiled))
            except asyncio.CancelledError:
                abandoned.set()  # in the middle of it, too
                raise
        number = next(self._numbers)

        def submit() -> tuple[tuple[int, ...], list[EngineRequest]]:
            ids = prompt_ids(request, self.tokenizer, self.template, encodes=self._encodes)
            first = self._engine_request(request, grammar, ids, number, events)
            # A beam search finds all choices at once; drawn ones are a request each.
            searches = request.sampling.num_beams > 1
            asked = [first] if searches else choices_of(first, request.sampling.n)
            self._engine.submit(*asked)
            if abandoned.is_set():
                self._cancel(number, request)
            return ids, asked

        try:
            return await asyncio.to_thread(submit)
        except asyncio.CancelledError:
            # Whichever comes second, the submission or this, sees the other.
            abandoned.set()
            self._cancel(number, request)
            raise
        except LmstackError as error:
            if error.param == "prompt" and request.messages:
                error.param = "messages"
            raise

    def _cancel(self, number: int, request: Request) -> None:
        for index in range(request.sampling.n):
            self._engine.cancel(f"{number}-{index}")

    def _engine_request(
        self,
        request: Request,
        grammar: Grammar | None,
        ids: tuple[int, ...],
        number: int,
        events: Events,
    ) -> EngineRequest:
        """That of the first choice."""
        tokenizer, defaults = self.tokenizer, self._loaded.generation
        special = tokenizer.special_tokens
        start = defaults.decoder_start_id

        def on_event(event: TokenEvent) -> None:
            # Of a beam search's choices the request is the first, of others itself.
            index = event.choice + int(event.request_id.partition("-")[2])
            try:
                events.post((index, event, self._digest()))
            except RuntimeError:  # the loop is closed: nobody listens any more
                self._engine.cancel(event.request_id)

        return EngineRequest(
            id=f"{number}-0",
            prompt_ids=ids,
            on_event=on_event,
            sampling=with_defaults(request.sampling, defaults),
            grammar=grammar,
            echo=request.echo,
            score_from=self._score_from(request, ids),
            # A control token has no bytes to find a stop string in; its id does as well.
            stop_ids=frozenset(special[s] for s in request.sampling.stop if s in special),
            bad_words=bad_words(request.sampling, tokenizer, defaults),
            decoder_ids=(start,) if self._encodes and start is not None else (),
            client=request.client,
            cache_scope=request.cache_scope,
            default_max_tokens=self._defaults.max_tokens,
            adapter=self._adapter,
        )

    def _score_from(self, request: Request, ids: tuple[int, ...]) -> int:
        """The token that holds character ``echo_from`` of the prompt."""
        if not (request.echo_from and isinstance(request.prompt, str)):
            return 0
        left, place = len(request.prompt[request.echo_from :].encode()), len(ids)
        while left > 0 and place > 0:
            place -= 1
            left -= len(self.tokenizer.token_bytes(ids[place]))
        return place

    def _echoed(
        self, request: Request, index: int, ids: tuple[int, ...], event: TokenEvent
    ) -> Delta:
        prompt = request.prompt
        text = prompt if isinstance(prompt, str) else self.tokenizer.decode(ids)
        logprobs = tuple(token_logprob(self.tokenizer, s) for s in event.prompt)
        return Delta(text, index, logprobs)


class AdaptedModel(LocalModel):
    """``base`` with an adapter, in the engine of ``base``, which closes with that alone unless
    this one ``owns_base``. ``info`` has the digest of both. Of no use once the weights of ``base``
    have been replaced."""

    def __init__(
        self, base: LocalModel, name: str, adapter: EngineAdapter, *, owns_base: bool = False
    ) -> None:
        vars(self).update(vars(base))
        self._base, self._adapter, self._owns_base = base, adapter, owns_base
        self._info = dataclasses.replace(
            base.info,
            name=name,
            digest=f"{base.info.digest}+{adapter.digest}",
            parent=base.info.name,
            parameters=base.info.parameters + adapter.num_parameters,
        )

    def _digest(self) -> str | None:
        return self._info.digest

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        raise UnsupportedError(
            f"{self._info.name} is an adapter beside the {len(weights)} weights to replace",
            hint="replace those of the base, and open the adapter again",
        )

    def save(self, folder: str | Path) -> None:
        raise UnsupportedError(
            f"a model and an adapter beside it are not one set of weights to write to {folder}",
            hint="merge the adapter into the model, and save that",
        )

    def close(self) -> None:
        """The engine is that of the base, and is stopped where this model owns that."""
        if self._owns_base:
            self._base.close()


def _close(compiling: RoundRobinThread, engine: Engine) -> None:
    compiling.close()
    engine.close()


def _vocabulary(loaded: LoadedModel) -> GrammarVocabulary:
    tokenizer = loaded.tokenizer
    return GrammarVocabulary(
        [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
        loaded.generation.eos_ids,
        tokenizer.special_ids,
    )


def load_draft(
    ref: str | os.PathLike[str] | ModelFolder | None, store: Store | None
) -> LoadedModel | None:
    """The model that drafts, if there is to be one, its weights in the form that is fastest here:
    what it loses by that costs a guess now and then."""
    if ref is None:
        return None
    store = store or Store()
    folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
    kept = native_problem() or has_blocks(folder) or stored_form(folder)
    loaded = load_weights(folder, store, None if kept else "int8")
    if not loaded.has_tokenizer or loaded.kind != "generate":
        raise InputError(
            f"{loaded.name} does not generate text, so it cannot draft",
            hint="use a smaller language model with the same tokenizer",
            param="draft",
        )
    return loaded


def load_weights(
    ref: str | os.PathLike[str] | ModelFolder,
    store: Store | None,
    weights: str | None,
    dtype: str | torch.dtype | None = None,
    *,
    default: str | None = None,
    device: str = "cpu",
) -> LoadedModel:
    """The model that ``ref`` names, its weights in the form that is asked for, in whichever of
    the two ways. ``default``: unless asked for, and not that of the files; None: what is fastest
    on ``device`` and loses nothing that the files hold."""
    asked = requested_form(weights, dtype)
    store = store or Store()
    folder = ref if isinstance(ref, ModelFolder) else store.resolve(ref)
    form = asked or stored_form(folder) or default
    if form is None:
        form = usual_form(folder, store.root, device)
        slow = slow_form(folder, form, device)
        if slow:
            log.warning("%s", slow)
    if device == "cpu":
        check_memory(folder, form)
    return load(folder, store, weights=form)


def open_model(
    ref: str | os.PathLike[str] | ModelFolder,
    *,
    store: Store | None = None,
    weights: str | None = None,
    dtype: str | torch.dtype | None = None,
    engine: EngineConfig | None = None,
    draft: str | os.PathLike[str] | ModelFolder | None = None,
) -> LocalModel | LocalEmbedder | LoadedModel:
    """`LocalModel` for what generates, `LocalEmbedder` for sentence vectors, else the
    `LoadedModel` itself, as for a folder without a tokenizer. An adapter is opened beside the base
    that it names. ``draft``: of what generates, see `LocalModel`. No network."""
    adapter = None if isinstance(ref, ModelFolder) else (store or Store()).adapter(ref)
    if adapter is not None:
        base = open_model(
            base_of(adapter, store),
            store=store,
            weights=weights,
            dtype=dtype,
            engine=engine,
            draft=draft,
        )
        if not isinstance(base, LocalModel):
            raise UnsupportedError(
                f"{ref} adapts a model that does not write",
                hint=f"lmstack model merge {ref} --output NAME makes a model of both",
                param="model",
            )
        return base.with_adapter(adapter, owns_base=True)
    loaded = load_weights(ref, store, weights, dtype, default="float32")
    if not loaded.has_tokenizer:
        return loaded
    if loaded.kind in ("generate", "seq2seq"):
        return LocalModel(loaded, engine, draft=load_draft(draft, store))
    return LocalEmbedder(loaded) if loaded.kind == "embed" else loaded
