"""POST /tokenize and /detokenize, in vLLM's shapes."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import body_errors, documented
from lmstack.serve.http.requests import DetokenizeBody, TokenizeBody
from lmstack.serve.http.responses import Detokenized, Tokenized
from lmstack.serve.http.serving import check_ids, serving_of

__all__ = ["router"]

router = APIRouter()


@router.post("/tokenize", **documented(TokenizeBody, Tokenized, None, body_errors))
async def tokenize(request: Request) -> Response:
    """The token ids that a raw prompt becomes."""
    body = await read_json(request, TokenizeBody)
    serving = serving_of(request)
    name, codec = serving.tokenizer(body.model)
    special = body.add_special_tokens is not False

    def work() -> str:
        ids = codec.encode(body.prompt, add_special_tokens=special)
        strings = [codec.token(each) for each in ids] if body.return_token_strs else None
        info = serving.infos().get(name)
        return Tokenized(
            count=len(ids),
            max_model_len=info.context_length if info else None,
            tokens=ids,
            token_strs=strings,
        ).model_dump_json()

    answer = await to_thread.run_sync(work, limiter=serving.threads)
    return Response(answer, media_type="application/json")


@router.post("/detokenize", **documented(DetokenizeBody, Detokenized, None, body_errors))
async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    body = await read_json(request, DetokenizeBody)
    serving = serving_of(request)
    _, codec = serving.tokenizer(body.model)

    def work() -> str:
        check_ids(body.tokens, codec.vocab_size, "tokens")
        return Detokenized(prompt=codec.decode(body.tokens)).model_dump_json()

    answer = await to_thread.run_sync(work, limiter=serving.threads)
    return Response(answer, media_type="application/json")
