"""`lmstack tokenizer`: train a vocabulary on files, or write another kind of file as a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from lmstack.app.cli import tokenizer_files
from lmstack.app.cli.command import command, group
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, seconds, size

__all__ = ["register"]

Folder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder to write; made if it is missing.")
]

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Text files, folders of .txt and .md files, patterns in quotes, or - for standard"
        " input.",
    ),
]
Kind = Annotated[
    str,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="bpe (byte-level), wordpiece, unigram, sentencepiece-bpe or sentencepiece-unigram.",
    ),
]
VocabSize = Annotated[
    int,
    typer.Option("--vocab-size", metavar="N", help="Tokens in all, control tokens included."),
]
Special = Annotated[
    list[str] | None,
    typer.Option("--special", metavar="TOKEN", help="One more control token; may be repeated."),
]
ChatTemplateFile = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="FILE",
        help="A Jinja template to write with it, or chatml, which brings its control tokens.",
    ),
]
MinFrequency = Annotated[
    int,
    typer.Option("--min-frequency", metavar="N", help="Pairs seen less often are not merged."),
]
Lowercase = Annotated[
    bool, typer.Option("--lowercase", help="Lower-case text first (wordpiece and unigram).")
]
Pattern = Annotated[
    str,
    typer.Option(
        "--pattern",
        metavar="NAME",
        help="How bpe cuts words: gpt2, cl100k, llama3, o200k or qwen.",
    ),
]


def register(app: typer.Typer) -> None:
    tokenizers = group(
        "Train and convert vocabularies.\n\nWhat is written is a folder that transformers loads"
        " with the same ids: tokenizer.json and its configuration.",
        example="lmstack tokenizer train corpus/ --vocab-size 8192 --out my-tokenizer\n"
        "lmstack tokenizer convert tokenizer.model --out my-tokenizer",
    )
    command(
        tokenizers,
        "train",
        example="lmstack tokenizer train corpus/ --vocab-size 8192 --out my-tokenizer\n"
        "lmstack tokenizer train 'books/**/*.txt' --kind wordpiece --lowercase --out my-bert\n"
        "zcat corpus.gz | lmstack tokenizer train - --chat-template chatml --out my-tokenizer",
    )(train)
    command(
        tokenizers,
        "convert",
        example="lmstack tokenizer convert tokenizer.model --out my-tokenizer\n"
        "lmstack tokenizer convert ranks.tiktoken --encoding cl100k_base --out my-tokenizer",
    )(convert)
    app.add_typer(tokenizers, name="tokenizer")


def train(
    out: Output,
    files: Files,
    folder: Folder,
    kind: Kind = "bpe",
    vocab_size: VocabSize = 32_000,
    special: Special = None,
    chat_template: ChatTemplateFile = None,
    min_frequency: MinFrequency = 2,
    lowercase: Lowercase = False,
    pattern: Pattern = "gpt2",
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
    setup = tokenizer_files.training(chat_template, settings)
    with out.progress("Training", "bytes") as bar:
        result = tokenizer_files.trained(setup, files, _stdin(files), folder, bar.update)
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


def convert(
    out: Output,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A vocabulary: SentencePiece .model, tiktoken, tekken.json, vocab.txt, vocab.json"
            " beside merges.txt, a .gguf file, or the folder of one.",
        ),
    ],
    folder: Folder,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="The encoding of a tiktoken file that is not recognized by its content.",
        ),
    ] = None,
) -> None:
    """Write a vocabulary of any kind as a folder with tokenizer.json."""
    result = tokenizer_files.converted(source, encoding, folder)
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
