"""Prometheus metrics of one app, in a registry of its own.

Names are lmstack_*, units as Prometheus asks. Labels take values from fixed sets only (routes,
served models, statuses), so a client cannot grow them. The engine's figures come from a
callable, read at scrape time. Nothing here ever holds text.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lmstack.core import ChatModel, Delta, ModelInfo, Request, Usage
from lmstack.serve.http.streams import close

__all__ = ["EngineStats", "Metrics", "Observed"]

EngineStats = Callable[[], Mapping[str, object]]
M = TypeVar("M", Counter, Gauge, Histogram)

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

# The engine's names for what Prometheus has a style for; other figures keep their names.
FIGURES = {
    "num_running": "requests_running",
    "num_waiting": "requests_waiting",
    "num_blocks": "kv_blocks",
    "num_blocks_used": "kv_blocks_used",
    "num_blocks_cached": "kv_blocks_cached",
    "num_prompt_tokens": "engine_prompt_tokens_total",
    "num_generated_tokens": "engine_generated_tokens_total",
    "num_prefix_queries": "prefix_cache_queries_total",
    "num_prefix_hits": "prefix_cache_hits_total",
    "prefix_hit_rate": "prefix_cache_hit_rate",
    "num_draft_tokens": "draft_tokens_total",
    "num_accepted_tokens": "draft_tokens_accepted_total",
    "num_preemptions": "preemptions_total",
    "num_steps": "engine_steps_total",
    "num_adapters": "adapters",
    "num_adapter_bytes": "adapter_bytes",
    "num_invariant_failures": "engine_invariant_failures_total",
}

log = logging.getLogger("lmstack.serve")


class Metrics:
    """Counters are touched from the event loop only."""

    def __init__(self, engine: EngineStats | None = None) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.engine = engine

        def made(kind: type[M], name: str, about: str, *labels: str, **more: Any) -> M:
            return kind(f"lmstack_{name}", about, labels, registry=self.registry, **more)

        self.requests = made(Counter, "requests", "Requests answered", "route", "status")
        self.in_flight = made(Gauge, "requests_in_flight", "Requests being answered")
        name, about = "request_duration_seconds", "From first byte to last"
        self.duration = made(Histogram, name, about, "route", buckets=LATENCY)
        about = "Clients that left before the end"
        self.disconnects = made(Counter, "client_disconnects", about)
        name = "time_to_first_token_seconds"
        self.first_token = made(Histogram, name, "Queueing and prefill", "model", buckets=LATENCY)
        name, about = "time_per_output_token_seconds", "Mean of a request, after its first token"
        self.per_token = made(Histogram, name, about, "model", buckets=PER_TOKEN)
        about = "Prompt tokens of finished requests"
        self.prompt_tokens = made(Counter, "prompt_tokens", about, "model")
        about = "Of these, from the prefix cache"
        self.cached_tokens = made(Counter, "prompt_tokens_cached", about, "model")
        about = "Tokens generated for finished requests"
        self.generation_tokens = made(Counter, "generation_tokens", about, "model")
        if engine is not None:
            self.registry.register(_EngineCollector(engine))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """``{"num_blocks_used": 3}`` becomes ``lmstack_kv_blocks_used`` 3; ``_total`` is a counter.
    What is not a number is left out."""

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        values = self._figures()
        up = GaugeMetricFamily("lmstack_engine_up", "1 where the engine's figures are known")
        up.add_metric([], float(bool(values)))
        yield up
        for name, value in values.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(f"lmstack_{name}", f"Engine: {name.replace('_', ' ')}")
            metric.add_metric([], value)
            yield metric

    def _figures(self) -> dict[str, float]:
        try:
            figures = dict(self._stats())
        except Exception as error:
            log.warning("the engine's figures are unavailable: %s", type(error).__name__)
            return {}
        return {
            FIGURES.get(name, name): float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and NAME.match(name)
        }


class Observed:
    """A `ChatModel` that measures another and closes its stream, whoever stops first."""

    def __init__(self, model: ChatModel, name: str, metrics: Metrics) -> None:
        self._model = model
        self._name = name
        self._metrics = metrics

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        start = time.perf_counter()
        first: float | None = None
        stream = self._model.stream(request)
        try:
            async for delta in stream:
                if first is None:
                    first = time.perf_counter()
                    self._metrics.first_token.labels(self._name).observe(first - start)
                if delta.usage is not None:
                    self._finish(delta.usage, time.perf_counter() - first)
                yield delta
        finally:
            await close(stream)

    def _finish(self, usage: Usage, decoding_s: float) -> None:
        metrics = self._metrics
        metrics.prompt_tokens.labels(self._name).inc(usage.prompt_tokens)
        metrics.cached_tokens.labels(self._name).inc(usage.cached_tokens)
        metrics.generation_tokens.labels(self._name).inc(usage.completion_tokens)
        if usage.completion_tokens > 1:
            mean = decoding_s / (usage.completion_tokens - 1)
            metrics.per_token.labels(self._name).observe(mean)
