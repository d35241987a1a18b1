"""lmstack: a language model from raw text to a served, guarded, evaluated answer.

    import lmstack

    model = lmstack.load("smollm2-135m-instruct")
    print(model.generate("The capital of France is", max_tokens=8))

Names are looked up when they are used, so importing lmstack loads neither torch nor a server.
Each module (`lmstack.core`, `lmstack.text`, ... `lmstack.serve`, `lmstack.rag`) has more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.core import LmstackError, Message, Prompt, Request, SamplingParams
    from lmstack.engine import EngineConfig
    from lmstack.rag import Answer, Answerer, Index
    from lmstack.registry import LoadedModel
    from lmstack.safety import AuditLog, GuardedModel
    from lmstack.serve import LocalEmbedder, LocalModel, create_app
    from lmstack.serve.tasks import ModelTask

__all__ = [
    "Answer",
    "Answerer",
    "AuditLog",
    "GuardedModel",
    "Index",
    "LmstackError",
    "LocalEmbedder",
    "LocalModel",
    "Message",
    "Prompt",
    "Request",
    "SamplingParams",
    "__version__",
    "create_app",
    "load",
    "load_embedder",
    "task",
]

__version__ = "0.1.0"

# torch's threads spin between operations while they wait for each other. On a machine that has
# anything else to do, a thread that spins keeps the one it waits for from running: decoding fell
# from 40 to 8 tokens/s. A short spin keeps the speed and then gives way. Read when torch loads.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def load(
    name_or_folder: str | Path,
    *,
    weights: str | None = None,
    dtype: str | None = None,
    engine: EngineConfig | None = None,
    draft: str | Path | None = None,
) -> LocalModel | LocalEmbedder | LoadedModel:
    """A model from the store (a short name) or from disk (a folder, a .gguf file).

    All have ``.module`` (the `Transformer`: ``module(input_ids, attention_mask)`` gives logits
    and hidden states), ``.tokenizer``, ``.generate`` and ``.save(folder)``. One that generates
    text comes as a `LocalModel`, an embedding model as a `LocalEmbedder`, any other as
    what `task` runs. ``weights``: the form in which they are held, ``float32`` (the default,
    whose logits are those of other implementations), ``bfloat16`` (as the command line serves a
    language model, twice as fast), ``int8``, ``q4``, ``nf4`` or ``file`` (the blocks of a GGUF
    file).
    ``dtype``: another way to name a float form. ``engine``: of a language model. ``draft``: a
    smaller one with the same tokenizer, which makes it faster and changes no token. Nothing is
    downloaded: `NotFoundError` names the command that does.
    """
    from lmstack.serve import open_model

    return open_model(name_or_folder, weights=weights, dtype=dtype, engine=engine, draft=draft)


def load_embedder(name_or_folder: str | Path, *, weights: str | None = None) -> LocalEmbedder:
    """An embedding model with ``.embed(texts)``. ``weights``: the form in which they are held;
    unless given, the one that the command line indexes with: int8 for all-minilm-l6-v2, that of
    the files for others. ``float32`` gives the vectors of other implementations. Nothing is
    downloaded."""
    from lmstack.serve import LocalEmbedder

    return LocalEmbedder.load(name_or_folder, weights=weights)


def task(name: str, model: Any, **options: Any) -> ModelTask[Any, Any, Any]:
    """What people use such models for: ``task("ner", "pii-ner")(texts)``.

    ``name``: of a task, see `lmstack.serve.tasks.TASKS`. ``model``: a name in the store, a
    folder, or what `load` gave. ``options``: of the task, for every call; ``weights`` is the form
    in which those of a named model are held, as in `load`. Nothing is downloaded.
    """
    from lmstack.serve.tasks import task as made

    return made(name, model, **options)


__getattr__, __dir__ = lazy_names(__name__)
