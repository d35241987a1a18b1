"""Which files of a package or repository make up one model.

Covers picking one model folder out of a listing, the allow-list of file kinds, refusing weights
that are pickles, and ONNX exports where there is nothing else. Works on names and sizes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from lmstack.core import FormatError, InputError, shown

__all__ = ["CONVERT", "EXPORTED", "PICKLES", "FileSelection", "select"]

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_T = TypeVar("_T")
_KEPT = (".json", ".txt", ".jinja", ".model", ".md")
_WEIGHTS = (".safetensors", ".gguf")
_GRAPH = ".onnx"
# An encoder-decoder is exported in two: as optimum names them, and shortly.
_PAIRS = (("encoder_model.onnx", "decoder_model.onnx"), ("encoder.onnx", "decoder.onnx"))
# A sentence-transformers folder keeps its later stages in folders such as 1_Pooling.
_STAGE = re.compile(r"\d+_[A-Za-z]\w*\Z")
CONVERT = (
    "pickle files can run code, so lmstack never opens them; convert once, where you trust the "
    "file: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) with transformers writes "
    "safetensors"
)
EXPORTED = "lmstack pull {path} makes a model of it, with safetensors"


@dataclass(frozen=True)
class FileSelection:
    """``files``: path in the source -> path in the model folder. ``left_out``: weights there that
    are not taken (pickles, other formats)."""

    files: dict[str, str]
    left_out: tuple[str, ...]


def select(names: Iterable[str], part: str, source: str) -> FileSelection:
    """Choose among ``names`` (posix paths); ``part`` is the ``#folder`` or ``#file`` of the ref.

    Raises `FormatError` where there are no weights, or pickles only, and `InputError` where
    several models are there and ``part`` picks none.
    """
    paths = [PurePosixPath(name) for name in names if _plain(name)]
    weights = [p for p in paths if p.suffix in _WEIGHTS and not p.name.startswith("consolidated")]
    graphs = [p for p in paths if p.suffix == _GRAPH]
    if weights:
        chosen, root = _stored(weights, part, source)
    elif graphs:
        chosen, root = _exported(graphs, part, source)
    else:
        pickles = sorted(p.name for p in paths if p.suffix in PICKLES)
        if pickles:
            raise FormatError(f"{source} has its weights in {pickles[0]}, a pickle", hint=CONVERT)
        raise FormatError(
            f"{source} has no weights (*.safetensors, *.gguf or *.onnx)",
            hint="check the name; lmstack model list shows what is known",
        )
    files = {str(p): p.name for p in chosen}
    for p in paths:
        if p.suffix in _KEPT and p.parent in (root, chosen[0].parent):
            files[str(p)] = p.name
        elif p.suffix in (".json", ".safetensors", ".txt") and _is_stage(p, root):
            files[str(p)] = f"{p.parent.name}/{p.name}"
    others = (*PICKLES, *_WEIGHTS) if weights else (_GRAPH,)
    left = [str(p) for p in paths if p.suffix in others and p.is_relative_to(root)]
    return FileSelection(files, tuple(sorted(name for name in left if name not in files)))


def _stored(
    weights: list[PurePosixPath], part: str, source: str
) -> tuple[list[PurePosixPath], PurePosixPath]:
    """The safetensors of one folder, or one GGUF file; and that folder."""
    roots = sorted({p.parent for p in weights if not _STAGE.match(p.parent.name)})
    files = [p for p in weights if part in (str(p), p.name)][:1] if part else []
    if files:
        weights, root = files, files[0].parent
    elif part:
        matching = [r for r in roots if part in (str(r), r.name)]
        names = [*(str(r) for r in roots), *(p.name for p in weights)]
        root = _only(matching, part, source, "parts with that name", names)
    else:
        root = _only(roots, part, source, "folders with weights", [str(r) for r in roots])
    here = [p for p in weights if p.parent == root]
    chosen = [p for p in here if p.suffix == ".safetensors"]
    if not chosen:
        chosen = [_only(here, part, source, "GGUF files", [p.name for p in here])]
    return chosen, root


def _exported(
    graphs: list[PurePosixPath], part: str, source: str
) -> tuple[list[PurePosixPath], PurePosixPath]:
    """The graphs of one folder, and that folder, or the one above ``onnx/``."""
    files = [p for p in graphs if part in (str(p), p.name)]
    if part and files:
        chosen = [_only(files, part, source, "files with that name", [str(p) for p in files])]
        return chosen, _root(chosen[0])
    roots = sorted({_root(p) for p in graphs})
    wanted = [r for r in roots if not part or part in (str(r), r.name)]
    root = _only(wanted, part, source, "folders with ONNX files", [str(r) for r in roots])
    here = {p.name: p for p in graphs if _root(p) == root}
    names = next((pair for pair in _PAIRS if here.keys() >= set(pair)), ("model.onnx",))
    chosen = [here[name] for name in names if name in here] or list(here.values())
    if len(chosen) != len(names):
        _only(chosen, part, source, "ONNX files", [str(p) for p in chosen])
    return chosen, root


def _root(graph: PurePosixPath) -> PurePosixPath:
    return graph.parent.parent if graph.parent.name == "onnx" else graph.parent


def _plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name)


def _is_stage(path: PurePosixPath, root: PurePosixPath) -> bool:
    return path.parent.parent == root and bool(_STAGE.match(path.parent.name))


def _only(found: list[_T], part: str, source: str, what: str, choices: list[str]) -> _T:
    if len(found) == 1:
        return found[0]
    base = source.split("#")[0]
    raise InputError(
        f"{source} has {len(found)} {what}" + (f" {shown(part)}" if part else ""),
        hint="choose one, e.g. " + ", ".join(f"{base}#{name}" for name in choices[:8]),
    )
