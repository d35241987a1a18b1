"""What `lmstack tokenizer` does: train a vocabulary or read one, and write it as a folder.

Like `wiring`, imports what it wires when it is called. Does not cover reading tokenizers by name
(`vocabularies.py`).
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lmstack.app.wiring.vocabularies import vocabulary
from lmstack.core import InputError, NotFoundError, StoreError, shown

if TYPE_CHECKING:
    from lmstack.text import Corpus, Tokenizer, VocabularyConfig

__all__ = ["Training", "converted", "trained", "training"]

TEMPLATE = "chat_template.jinja"
_SAMPLE = 1 << 20


@dataclass(frozen=True)
class Training:
    """``roles``: parts that the template's control tokens play."""

    config: VocabularyConfig
    roles: dict[str, str]
    template: str | None


def training(chat_template: str | None, settings: dict[str, Any]) -> Training:
    """Everything that can be wrong with the options is said here, before any text is read."""
    from lmstack.text import CHATML, ChatTemplate, VocabularyConfig

    if chat_template is None:
        return Training(VocabularyConfig.from_mapping(settings), {}, None)
    if chat_template == "chatml":
        names = tuple(dict.fromkeys((*settings["special_tokens"], *CHATML.special_tokens)))
        config = VocabularyConfig.from_mapping({**settings, "special_tokens": names})
        return Training(config, dict(CHATML.roles), CHATML.template)
    config = VocabularyConfig.from_mapping(settings)
    try:
        source = Path(chat_template).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"the chat template {shown(chat_template)} cannot be read",
            hint="give a file in UTF-8, or chatml",
            param="chat_template",
        ) from error
    ChatTemplate(source)  # refuses what does not compile
    return Training(config, {}, source)


def trained(
    setup: Training,
    patterns: Sequence[str],
    stream: BinaryIO | None,
    folder: Path,
    update: Callable[[int, int | None, str], None],
) -> dict[str, Any]:
    """Train, write ``folder``, and say what came of it."""
    from lmstack.text import Corpus, find_files, train_tokenizer

    _check_target(folder)
    corpus = Corpus(stream=stream) if stream is not None else Corpus(find_files(patterns))
    sample: list[str] = []
    start = time.perf_counter()

    def tell(phase: str) -> None:
        label = corpus.label if phase == "reading" else "merging"
        update(corpus.done, corpus.total, label)

    tokenizer = train_tokenizer(
        _sampled(corpus, sample), setup.config, roles=setup.roles, progress=tell
    )
    took = time.perf_counter() - start
    read = sum(len(text.encode()) for text in sample)
    count = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in sample)
    _write(tokenizer, folder, setup.template)
    return {
        **_described(tokenizer, folder),
        "kind": setup.config.kind,
        "files": len(corpus.files),
        "bytes": corpus.done,
        "bytes_per_token": read / max(1, count),
        "seconds": round(took, 3),
    }


def converted(source: Path, encoding: str | None, folder: Path) -> dict[str, Any]:
    """Read a vocabulary file, or a folder with one, and write ``folder``."""
    from lmstack.text import Tokenizer

    _check_target(folder)
    if encoding is not None:
        tokenizer = Tokenizer.from_file(source, encoding)
    else:
        tokenizer = vocabulary(str(source))
    _write(tokenizer, folder, None)
    return _described(tokenizer, folder)


def _described(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    return {
        "path": str(folder),
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": dict(sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])),
    }


def _sampled(corpus: Corpus, sample: list[str]) -> Iterator[str]:
    """The corpus as it is; its beginning stays in ``sample``."""
    size = 0
    for text in corpus:
        if size < _SAMPLE:
            sample.append(text)
            size += len(text)
        yield text


def _check_target(folder: Path) -> None:
    """Before an hour of training, not after it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{shown(str(folder))} is a file", hint="name a folder", param="out")
    if (folder / "config.json").exists():
        raise InputError(
            f"{shown(str(folder))} holds a model, whose tokens would no longer be its own",
            hint=f"name another folder: --out {shlex.quote(str(folder) + '-tokenizer')}",
            param="out",
        )


def _write(tokenizer: Tokenizer, folder: Path, template: str | None) -> None:
    """All files or none, as far as a file system allows: a large vocabulary takes seconds to
    write, and Ctrl-C may come in between."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lmstack-", dir=folder.parent) as scratch:
            staged = Path(scratch)
            tokenizer.save(staged)
            if template is None:
                (folder / TEMPLATE).unlink(missing_ok=True)
            else:
                (staged / TEMPLATE).write_text(template, encoding="utf-8")
            folder.mkdir(exist_ok=True)
            for file in sorted(staged.iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}", hint="check the permissions there"
        ) from error
