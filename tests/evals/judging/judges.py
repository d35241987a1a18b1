"""Models whose preference, and whose liking for a place, are known."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from lmstack.core import Delta, ModelInfo, Request, TokenLogprob, UnsupportedError

FENCED = re.compile(r'<data-(\w+) from="(answer[ AB]*)">\n(.*?)\n</data-\1>', re.DOTALL)


class Judge:
    """Gives each letter the logit that ``logits`` says for the prompt, beside a hundred other
    tokens that share it with none. ``knows``: what it can do."""

    info = ModelInfo("judge")

    def __init__(self, logits: Callable[[str], Mapping[str, float]], *knows: str) -> None:
        self._logits, self._knows = logits, knows
        self.requests: list[Request] = []

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.requests.append(request)
        grammar = request.grammar
        if grammar is not None and grammar.kind == "regex" and "regex" not in self._knows:
            raise UnsupportedError("no regular expressions", param="response_format")
        if request.sampling.logprobs is not None and "logprobs" not in self._knows:
            raise UnsupportedError("no log-probabilities", param="logprobs")
        logits = {**self._logits(request.messages[-1].content), **{f"x{n}": 0.0 for n in range(50)}}
        total = math.log(sum(map(math.exp, logits.values())))
        logprobs = {token: value - total for token, value in logits.items()}
        best = sorted(logprobs, key=logprobs.__getitem__, reverse=True)
        allowed = best
        if grammar is not None and grammar.kind == "regex":
            allowed = [token for token in best if re.fullmatch(grammar.source, token)]
        token = allowed[0]
        shown: tuple[TokenLogprob, ...] = ()
        if request.sampling.logprobs is not None:
            top = tuple(_logprob(t, logprobs[t]) for t in best[: request.sampling.logprobs])
            shown = (_logprob(token, logprobs[token], top),)
        elif grammar is not None and grammar.kind == "json_schema":
            offered = json.loads(grammar.source)["properties"]["reply"]["enum"]
            token = json.dumps({"reply": max(offered, key=logprobs.__getitem__)})
        yield Delta(token, logprobs=shown)
        yield Delta(finish_reason="stop")


def _logprob(token: str, value: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token, token.encode(), value, top=top)


def shown_answers(prompt: str) -> dict[str, str]:
    """The answers in a judge's prompt, by their labels."""
    return {label: text for _, label, text in FENCED.findall(prompt)}


def letters(prefers: Mapping[str, float], place: float, level: float) -> Callable[[str], Any]:
    """Logits of A and B: how good the answers are, and ``place`` for the one shown first."""

    def logits(prompt: str) -> dict[str, float]:
        shown = shown_answers(prompt)
        return {
            "A": level + prefers[shown["answer A"]] + place,
            "B": level + prefers[shown["answer B"]],
        }

    return logits
