"""A tiny random model, small enough that a step takes a millisecond, and a way to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
import torch

from lmstack.core import Grammar, SamplingParams
from lmstack.engine import (
    Engine,
    EngineAdapter,
    EngineConfig,
    EngineRequest,
    GrammarVocabulary,
    TokenEvent,
)
from lmstack.model import Transformer, TransformerConfig

BYTES = 256
EOS = 256
NUM_TOKENS = 260


def byte_vocabulary() -> GrammarVocabulary:
    """One token a byte, an end, and three tokens of more than a byte."""
    tokens = [bytes([i]) for i in range(BYTES)] + [b"", b"ab", b'{"', "é".encode()]
    return GrammarVocabulary(tokens, frozenset({EOS}), frozenset({EOS}))


def tiny_config(**changes: object) -> TransformerConfig:
    values: dict[str, object] = {
        "vocab_size": NUM_TOKENS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "max_positions": 256,
    }
    return TransformerConfig.from_mapping(values | changes)


@pytest.fixture(scope="session")
def module() -> Transformer:
    torch.manual_seed(7)
    model = Transformer(tiny_config())
    # Wide enough that the next token depends on the context and the logits are far apart.
    model.reset_parameters(std=0.35)
    return model.eval()


@dataclass
class Outcome:
    """The events of one request, in order."""

    events: list[TokenEvent] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [e.token for e in self.events if e.token is not None]

    @property
    def last(self) -> TokenEvent:
        return self.events[-1]

    @property
    def done(self) -> bool:
        return bool(self.events) and bool(self.last.finish_reason or self.last.error)


def request(
    prompt: Iterable[int],
    outcome: Outcome | None = None,
    *,
    id: str = "r",
    grammar: Grammar | None = None,
    echo: bool = False,
    score_from: int = 0,
    on_event: Callable[[TokenEvent], None] | None = None,
    cache_scope: str = "",
    client: str = "",
    adapter: EngineAdapter | None = None,
    **sampling: object,
) -> EngineRequest:
    params = SamplingParams.from_mapping({"temperature": 0.0, "max_tokens": 8} | sampling)
    callback = on_event or (outcome or Outcome()).events.append
    return EngineRequest(
        id,
        tuple(prompt),
        callback,
        params,
        grammar,
        echo,
        cache_scope=cache_scope,
        client=client,
        score_from=score_from,
        adapter=adapter,
    )


def drive(engine: Engine, limit: int = 10_000) -> int:
    """Step until idle; the number of steps."""
    for steps in range(limit):
        if not engine.step():
            return steps + 1
    raise AssertionError(f"not idle after {limit} steps: {engine.stats()}")


def generate(engine: Engine, prompt: Iterable[int], **options: object) -> Outcome:
    outcome = Outcome()
    engine.submit(request(prompt, outcome, **options))  # type: ignore[arg-type]
    drive(engine)
    return outcome


@pytest.fixture
def make_engine(module: Transformer) -> Callable[..., Engine]:
    def make(**settings: object) -> Engine:
        values = {"block_size": 4, "num_blocks": 64, "max_batch_tokens": 64} | settings
        return Engine(module, byte_vocabulary(), EngineConfig.from_mapping(values))

    return make
