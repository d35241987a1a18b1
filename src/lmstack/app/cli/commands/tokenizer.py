"""`lmstack tokenizer`: train a vocabulary on files, or write another kind of file as a folder."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from lmstack.app.cli.command import command, group, option
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, seconds, size
from lmstack.app.inspect.vocabularies import vocabulary
from lmstack.core import InputError, NotFoundError, shown
from lmstack.core.files import store_error

if TYPE_CHECKING:
    from lmstack.text import TextCorpus, Tokenizer, VocabularyConfig

__all__ = ["convert", "train"]


Folder = Annotated[Path, option("--out DIR: The folder to write; made if it is missing.")]


group(
    "tokenizer",
    "train convert count",
    """
    Count tokens; train and convert vocabularies.

    What is written is a folder that transformers loads with the same ids: tokenizer.json and its
    configuration.

    lmstack tokenizer train docs/ --vocab-size 8192 --out my-tokenizer
    lmstack tokenizer convert tokenizer.model --out my-tokenizer
    """,
)


@command(
    "tokenizer train",
    """
    FILE: Text files, folders of .txt and .md files, patterns in quotes, or - for standard input.
    --kind KIND: bpe (byte-level), wordpiece, unigram, sentencepiece-bpe or sentencepiece-unigram.
    --vocab-size N: Tokens in all, control tokens included.
    --special TOKEN: One more control token; may be repeated.
    --chat-template FILE: A Jinja template to write with it, or chatml, which brings its control
        tokens.
    --min-frequency N: Pairs seen less often are not merged.
    --lowercase: Lower-case text first (wordpiece and unigram).
    --pattern NAME: How bpe cuts words: gpt2, cl100k, llama3, o200k or qwen.

    lmstack tokenizer train docs/ --vocab-size 8192 --out my-tokenizer
    lmstack tokenizer train 'docs/**/*.md' --kind wordpiece --lowercase --out my-bert
    cat docs/*.md | lmstack tokenizer train - --chat-template chatml --out my-tokenizer
    """,
)
def train(
    out: Output,
    files: list[str],
    folder: Folder,
    kind: str = "bpe",
    vocab_size: int = 32_000,
    special: list[str] | None = None,
    chat_template: str | None = None,
    min_frequency: int = 2,
    lowercase: bool = False,
    pattern: str = "gpt2",
) -> None:
    """Train a vocabulary on text files or a stream.

    bpe and both sentencepiece kinds give every text back exactly; wordpiece and unigram
    normalize. Memory holds the words that were counted, not the text. Nothing is written before
    the training has ended.
    """
    out.interrupted = ("nothing was written", out.again())
    settings = {
        "kind": kind,
        "vocab_size": vocab_size,
        "special_tokens": tuple(special or ()),
        "min_frequency": min_frequency,
        "lowercase": lowercase,
        "pattern": pattern,
    }
    setup = training(chat_template, settings)
    with out.progress("Training", "bytes") as bar:
        result = trained(setup, files, _stdin(files), folder, bar.update)
    out.interrupted = None
    if out.as_json:
        out.result(result)
        return
    if result["vocab_size"] < vocab_size:
        out.note(
            f"the text has no more than {result['vocab_size']:,} tokens that occur often enough;"
            " --min-frequency 1 or more text makes more"
        )
    _print(out, result)


@command(
    "tokenizer convert",
    """
    FILE: A vocabulary: SentencePiece .model, tiktoken, tekken.json, vocab.txt, vocab.json beside
        merges.txt, a .gguf file, or the folder of one.
    --encoding NAME: The encoding of a tiktoken file that is not recognized by its content.

    lmstack tokenizer convert tokenizer.model --out my-tokenizer
    lmstack tokenizer convert ranks.tiktoken --encoding cl100k_base --out my-tokenizer
    """,
)
def convert(out: Output, source: Path, folder: Folder, encoding: str | None = None) -> None:
    """Write a vocabulary of any kind as a folder with tokenizer.json."""
    result = converted(source, encoding, folder)
    if out.as_json:
        out.result(result)
    else:
        _print(out, result)


def _stdin(files: list[str]) -> BinaryIO | None:
    if "-" not in files:
        return None
    if len(files) > 1:
        raise CommandLineError(
            "standard input (-) is given beside files", hint="give one or the other", param="files"
        )
    return sys.stdin.buffer


def _print(out: Output, result: dict[str, Any]) -> None:
    rows = [("folder", str(result["path"])), ("tokens", f"{result['vocab_size']:,}")]
    if result["special_tokens"]:
        names = list(result["special_tokens"])
        more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
        rows.append(("control tokens", " ".join(names[:8]) + more))
    if "bytes" in result:
        rows.append(("read", size(result["bytes"])))
        rows.append(("bytes a token", f"{result['bytes_per_token']:.3f}"))
        rows.append(("time", seconds(result["seconds"])))
    out.lines(columns(rows))


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
    from lmstack.text import TextCorpus, find_files, train_tokenizer

    _check_target(folder)
    corpus = TextCorpus(stream=stream) if stream is not None else TextCorpus(find_files(patterns))
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


def _sampled(corpus: TextCorpus, sample: list[str]) -> Iterator[str]:
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
        raise store_error(error, folder, "writing") from error
