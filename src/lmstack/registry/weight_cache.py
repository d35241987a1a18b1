"""The weight cache: quantized weights of models, made once and kept for the next start.

    $LMSTACK_HOME/packed/DIGEST-FORM.safetensors

Such a file is read whole into memory of the process, so that no later change of it reaches what
answers; the price is that processes do not share it. It says which model it was made from, and has
an HMAC with a key of this user's (`signing.cache_key`): one that says another thing, is of an older
layout, or whose bytes are not those that this user wrote is made anew from the model's files. Does
not cover how it lies (`lmstack.model`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.model.quant.recipes import RECIPES
from lmstack.registry.card import ModelFolder
from lmstack.registry.home import locked
from lmstack.registry.signing import cache_key, sha256_of
from lmstack.registry.sources.known import known_of

if TYPE_CHECKING:
    import torch

    from lmstack.model import Transformer
    from lmstack.model.config import TransformerConfig
    from lmstack.model.forms import Form, Weight
    from lmstack.text import Tokenizer

log = logging.getLogger("lmstack.registry")

__all__ = [
    "Stored",
    "cached_file",
    "delete_cached",
    "embedding_form",
    "has_blocks",
    "image_file",
    "is_of",
    "load_form",
    "most_of_gguf",
    "most_weights",
    "requested_form",
    "served_digest",
    "shaped_digest",
    "stamp_of",
    "stored_form",
    "updated_digest",
]


Stored = Literal["floats", "blocks", "blocks of 4 bits"]
_STORED: tuple[Stored, ...] = get_args(Stored)
_FLOATS = ("F32", "F16", "BF16")
_LINES = ("Q4_0", "Q4_1", "Q4_K")  # the codes of a block of 32 are on a line

_RECIPES: dict[str, int] = {form: recipe.version for form, recipe in RECIPES.items()}
# Of the first digests that were given out, which name no recipe.
_FIRST_RECIPE = 6


def requested_form(weights: str | None, dtype: str | torch.dtype | None) -> Form | None:
    """The form that a request names, or the one with that dtype of floats."""
    from lmstack.model.forms import DTYPES, as_form

    named = None if dtype is None else str(dtype).removeprefix("torch.")
    if named is not None and named not in DTYPES:
        raise InputError(
            f"the dtype is {shown(dtype)}", hint=f"one of: {', '.join(DTYPES)}", param="dtype"
        )
    if weights is not None and named not in (None, weights):
        raise InputError(
            f"weights is {shown(weights)} and dtype is {named}",
            hint="give weights alone",
            param="weights",
        )
    chosen = weights or named
    return None if chosen is None else as_form(chosen)


def stored_form(folder: ModelFolder) -> Form | None:
    """The quantized form that the files of ``folder`` themselves hold."""
    if not (folder.path / QUANTIZED_FILE).is_file():
        return None
    from lmstack.model.formats.mapped.folder import quantized_form

    return quantized_form(folder.path)


def has_blocks(folder: ModelFolder, root: Path | None = None) -> bool:
    """Whether most of a model's weights are quantized blocks of a GGUF file. ``root``: as in
    `most_weights`."""
    return folder.gguf is not None and most_weights(folder, root) != "floats"


def most_weights(folder: ModelFolder, root: Path | None = None) -> Stored:
    """What most bytes of a model's weights are. ``root``: of a store that may know it already,
    which spares loading what reads GGUF files."""
    if folder.gguf is None:
        return "floats"
    if root is None:
        return most_of_gguf(folder.gguf)
    kept = root / "packed" / f"{_start(folder.digest)}-stored.txt"
    try:
        known = kept.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        known = ""
    for each in _STORED:
        if each == known:
            return each
    found = most_of_gguf(folder.gguf)
    with contextlib.suppress(StoreError):  # then it is asked again
        write_atomic(kept, found.encode("ascii"))
    return found


def most_of_gguf(gguf: Path) -> Stored:
    """`most_weights` of a GGUF file."""
    from lmstack.model import read_gguf

    sizes: Counter[str] = Counter()
    with read_gguf(gguf) as file:
        for tensor in file.tensors.values():
            sizes[tensor.kind.name] += tensor.size
    if 2 * sum(sizes[kind] for kind in _FLOATS) >= sizes.total():
        return "floats"
    return "blocks of 4 bits" if 2 * sum(sizes[k] for k in _LINES) >= sizes.total() else "blocks"


def stamp_of(folder: ModelFolder, form: str) -> dict[str, str]:
    """What a kept file of that form says that it was made from."""
    return {"model": folder.digest, "form": form, "recipe": str(_recipe(folder, form))}


def _recipe(folder: ModelFolder, form: str) -> int:
    """Floats are converted and not made."""
    if form == "int8" and folder.kind in ("embed", "late-interaction"):
        # Since then only what a text calibrates has changed, and encoders are not calibrated: the
        # vectors of an index stay, and so does the digest that they are kept under. Decoders that
        # embed are the exception: theirs changed by no more than they did between two machines.
        return _FIRST_RECIPE
    return _RECIPES.get(form, _FIRST_RECIPE)


def embedding_form(folder: ModelFolder) -> str | None:
    """The form in which an embedding model is used unless another is asked for; None: as its
    files have it. It depends on the model and never on the machine, because several machines may
    write to one index."""
    known = known_of(folder)
    return None if known is None else known.embeds_in


def served_digest(folder: ModelFolder, form: str, own: str | None = None) -> str:
    """What names the system that answers: the digest of the model's files (weights, tokenizer,
    chat template, settings), the form that the weights were brought to, the recipe of that form,
    and how the card, which is not among the files, says to sample. ``own``: the form that the files
    hold."""
    stated = folder.card.sampling.stated()
    sampling = "+sampling." + sha256_of(stated).removeprefix("sha256:")[:16] if stated else ""
    if form == (own or "float32"):
        return folder.digest + sampling
    recipe = _recipe(folder, form)
    version = "" if recipe == _FIRST_RECIPE else f".{recipe}"
    return f"{folder.digest}+{form}{version}{sampling}"


def updated_digest(module: Transformer, form: str, weights: Mapping[str, Weight]) -> str:
    """`served_digest` of a model that computes with ``weights`` in place of its own of the same
    names: the content of all that it then holds, and its form."""
    from lmstack.model.quant.matrix import held_weights
    from lmstack.model.replacing import weights_digest

    content = weights_digest(module.config, {**held_weights(module), **weights})
    return content if form == "float32" else f"{content}+{form}"


def shaped_digest(digest: str, max_tokens: int | None, dimensions: int | None) -> str:
    """What names the vectors of a model that reads only ``max_tokens`` of a text, or keeps only
    ``dimensions`` of a vector (None: all)."""
    tokens = f"+{max_tokens}tokens" if max_tokens is not None else ""
    return digest + tokens + (f"+{dimensions}d" if dimensions is not None else "")


def load_form(
    folder: ModelFolder,
    form: Form,
    root: Path,
    tokenizer: Callable[[], Tokenizer | None] = lambda: None,
) -> Transformer:
    """The module of ``folder`` with weights in ``form``. ``root``: of the store that keeps it.
    ``tokenizer``: of the text that shows how large activations are, where the form is made."""
    from lmstack.model import build_module
    from lmstack.model.formats.mapped.file import read_mapped, write_mapped
    from lmstack.model.forms import is_quantized
    from lmstack.model.loading import read_weights
    from lmstack.model.quant.smoothquant import calibration_text

    if not is_quantized(form) or stored_form(folder) is not None:
        return build_module(*read_weights(folder.path, form), source=str(folder.path))
    path, stamp = cached_file(root, folder.digest, form), stamp_of(folder, form)
    key = cache_key(root) or b""

    def read() -> tuple[TransformerConfig, dict[str, Weight]]:
        words = tokenizer()
        ids = None if words is None else words.encode(calibration_text())
        return read_weights(folder.path, form, ids)

    def kept() -> Transformer | None:
        try:
            return build_module(*read_mapped(path, stamp, verified=True, key=key))
        except FormatError as error:
            log.warning("made anew: %s", error)
            return None
        except (NotFoundError, StoreError):
            return None

    def made() -> Transformer:
        with locked(root / "locks" / f"{path.name}.lock"):
            module = kept()  # which another process may have made meanwhile
            if module is not None:
                return module
            config, weights = read()
            try:
                write_mapped(path, config, weights, stamp, key)
            except StoreError as error:  # only costs time at the next start
                log.info("not kept: %s", error)
            return build_module(config, weights)

    if not key:
        return build_module(*read())
    try:
        return kept() or made()
    except StoreError:  # a home that cannot be written, not even its locks
        return build_module(*read())


def delete_cached(root: Path, digest: str) -> None:
    """Delete the forms of the model with ``digest``."""
    for path in root.joinpath("packed").glob(f"{_start(digest)}-*"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise store_error(error, path, "deleting") from error


def is_of(path: Path, digest: str) -> bool:
    """Whether the file ``path`` of the cache is a form of the model with ``digest``."""
    return path.name.startswith(f"{_start(digest)}-")


def cached_file(root: Path, digest: str, form: str) -> Path:
    """Where that form of the model with ``digest`` is kept."""
    return root / "packed" / f"{_start(digest)}-{form}.safetensors"


def image_file(root: Path, digest: str, form: str) -> Path:
    """Where the native program of that form is kept (`lmstack.engine.cpu.image`)."""
    return cached_file(root, digest, form).with_suffix(".image")


def _start(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]
