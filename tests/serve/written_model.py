"""A chat model that writes given answers, token by token, as a model on this machine does."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.byte_tokens import smollm_bytes

from lmstack.core import Delta, ModelInfo, Request, Usage
from lmstack.engine import TokenEvent
from lmstack.serve.tokens import ChoiceText
from lmstack.serve.tool_calls import calls_of
from lmstack.text import ChatTemplate

__all__ = ["CHATML", "WrittenModel"]

CHATML = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class WrittenModel:
    """``answers``: in turn, as the text that the model writes; the last one repeats. What the
    client sees of it is made by the same steps as the answer of a `LocalModel`."""

    def __init__(self, *answers: str, template: str = CHATML) -> None:
        self.info = ModelInfo("m", "sha256:" + "0" * 64, 8192)
        self.requests: list[Request] = []
        self._answers = answers
        self._template, self._tokenizer = ChatTemplate(template), smollm_bytes()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        calls = calls_of(request, self._template, self._tokenizer, encodes=False)
        end = self._tokenizer.id_of("<|im_end|>")
        reader = None if calls is None else calls.reader()
        choice = ChoiceText(0, self._tokenizer, frozenset({end}), calls=reader)
        ids = self._tokenizer.encode(answer, special=False, add_special_tokens=False)
        length = 0
        for token in ids:
            length += len(self._tokenizer.token_bytes(token))
            for delta in choice.deltas(TokenEvent("0", token, safe_bytes=length)):
                yield delta
        last = TokenEvent("0", end, safe_bytes=length, finish_reason="stop")
        for delta in choice.deltas(last):
            yield delta
        yield Delta(usage=Usage(1, len(ids) + 1))
