"""`lmstack tokenizer count`: how tokenizers cut a text, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output, Style
from lmstack.app.formats import columns, is_colourful, printable
from lmstack.app.inspect.token_view import TONES, first_tokens, legible
from lmstack.app.inspect.vocabularies import vocabulary
from lmstack.core import FormatError, InputError, shown

if TYPE_CHECKING:
    from lmstack.text import Tokenizer, TokenPiece, TokenReport

__all__ = ["tokens"]

HEADER = ("TOKENIZER", "VOCABULARY", "TOKENS", "BYTES/TOKEN", "TOKENS/WORD", "UNKNOWN", "EXACT")
PAGE_TOKENS = 20_000
LONG = 1_000_000  # characters from which counting takes seconds
LONGEST_NAME = 255  # of a file; anything longer is a text


@command(
    "tokenizer count",
    """
    TEXT: A file, a text, or - for standard input.
    --compare NAME...: One or more tokenizers: a model in the store, a model folder, a .gguf file or
        a vocabulary file. [default: the model that answers]
    --price PRICE: Price of a million tokens, for all tokenizers; NAME=PRICE for one of them.
    --show N 0..: How many tokens of the text to show.
    --html FILE: Write the coloured text as a web page.

    lmstack tokenizer count README.md
    lmstack tokenizer count "Größe matters" --compare smollm2-135m-instruct all-minilm-l6-v2
    lmstack tokenizer count README.md --compare all-minilm-l6-v2 --price 2.50 --html tokens.html
    """,
    many=("--compare",),
)
def tokens(
    out: Output,
    source: str,
    compare: list[str] | None = None,
    price: list[str] | None = None,
    show: int = 120,
    html: Path | None = None,
) -> None:
    """Count a text's tokens and show where they are.

    For each tokenizer: size of its vocabulary, tokens, bytes per token (more is denser), tokens
    per word (fertility; a Chinese character or kana is a word), tokens for text that the
    vocabulary does not know, and whether decoding gives the text back exactly. Control tokens
    spelled in the text count as ordinary text.
    """
    text = _read(source, out)
    names = list(dict.fromkeys(compare or [wiring.default_model()]))
    prices = _prices(price or [], names)
    tokenizers = {name: vocabulary(name) for name in names}
    reports = _reports(out, tokenizers, text, prices)
    views = [(name, *_view(tokenizers[name], text, show)) for name in names]
    if html is not None:
        _write_page(html, source, text, reports, tokenizers)
        out.note(f"wrote {printable(str(html), one_line=True)}")
    if out.as_json:
        out.result(_to_json(reports, views))
        return
    _print(out, reports, views)


def _read(source: str, out: Output) -> str:
    if source == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input")
    try:
        is_file = len(source) <= LONGEST_NAME and Path(source).exists()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        if Path(source).is_dir():
            raise InputError(
                f"{shown(source)} is a folder", hint="give one file, or text in quotes"
            )
        return _decoded(Path(source).read_bytes(), source)
    if "\n" not in source and " " not in source and Path(source).suffix:
        out.note(f"there is no file {shown(source)}: counting these characters as text")
    return source


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{shown(name)} is not UTF-8 text: byte 0x{data[error.start]:02x} at {error.start}",
            hint="convert it first: iconv -f latin1 -t utf-8 FILE",
        ) from error


def _prices(given: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Prices by name. The last of what is said about a tokenizer counts."""
    prices: dict[str, float] = {}
    for entry in given:
        name, mark, value = entry.rpartition("=")
        if mark and name not in names:
            raise CommandLineError(
                f"--price names {shown(name)}, which is not compared",
                hint=f"one of: {', '.join(names)}",
                param="price",
            )
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not 0 <= amount < float("inf"):
            raise CommandLineError(
                f"--price is {shown(value)}, not a price",
                hint="--price 2.50, or --price NAME=2.50",
                param="price",
            )
        prices.update(dict.fromkeys([name] if mark else names, amount))
    return prices


def _reports(
    out: Output, tokenizers: dict[str, Tokenizer], text: str, prices: dict[str, float]
) -> list[TokenReport]:
    from lmstack.text import token_report

    if len(text) < LONG:
        return [token_report(n, t, text, prices.get(n)) for n, t in tokenizers.items()]
    reports = []
    with out.progress("Counting", "tokenizers") as bar:
        for done, (name, tokenizer) in enumerate(tokenizers.items()):
            bar.update(done, len(tokenizers), name)
            reports.append(token_report(name, tokenizer, text, prices.get(name)))
        bar.update(len(tokenizers), len(tokenizers))
    return reports


def _view(tokenizer: Tokenizer, text: str, count: int) -> tuple[list[TokenPiece], bool]:
    from lmstack.text import pieces

    return first_tokens(pieces(tokenizer, text), count) if count else ([], bool(text))


def _table(reports: Sequence[TokenReport]) -> tuple[list[str], list[list[str]]]:
    priced = any(report.price is not None for report in reports)
    rows = []
    for report in reports:
        row = [printable(report.name, one_line=True), f"{report.vocab_size:,}"]
        row += [f"{report.tokens:,}", _ratio(report.bytes_per_token), _ratio(report.fertility)]
        row += [f"{report.unknowns:,}", "yes" if report.exact else "no"]
        row += [_price(report.price)] if priced else []
        rows.append(row)
    return [*HEADER, *(["PRICE"] if priced else [])], rows


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _price(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if value >= 1 else f"{value:.6f}"


def _print(
    out: Output,
    reports: Sequence[TokenReport],
    views: Sequence[tuple[str, list[TokenPiece], bool]],
) -> None:
    first = reports[0]
    out.line(f"{first.characters:,} characters, {first.bytes:,} bytes, {first.words:,} words")
    out.line()
    header, rows = _table(reports)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    aligned = [
        [row[0], *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in [header, *rows]
    ]
    out.lines(columns(aligned))
    for name, found, goes_on in views:
        if found:
            out.line()
            out.line(out.style(printable(name, one_line=True), "bold"))
            shown_text = terminal_view(out, found, colour=is_colourful(sys.stdout))
            out.line(shown_text + (" …" if goes_on else ""))


def _write_page(
    path: Path,
    source: str,
    text: str,
    reports: Sequence[TokenReport],
    tokenizers: dict[str, Tokenizer],
) -> None:
    from lmstack.app.inspect.token_page import token_page

    header, rows = _table(reports)
    views = [(name, *_view(tokenizer, text, PAGE_TOKENS)) for name, tokenizer in tokenizers.items()]
    title = f"Tokens of {source}" if len(source) < 60 and "\n" not in source else "Tokens"
    try:
        path.write_text(token_page(title, header, rows, views), encoding="utf-8")
    except ValueError as error:
        raise InputError(f"--html is {shown(str(path))}, not a path", param="html") from error


def _to_json(
    reports: Sequence[TokenReport], views: Sequence[tuple[str, list[TokenPiece], bool]]
) -> dict[str, Any]:
    first = reports[0]
    return {
        "characters": first.characters,
        "bytes": first.bytes,
        "words": first.words,
        "tokenizers": [
            {
                "name": report.name,
                "vocab_size": report.vocab_size,
                "tokens": report.tokens,
                "bytes_per_token": report.bytes_per_token,
                "tokens_per_word": report.fertility,
                "unknowns": report.unknowns,
                "exact": report.exact,
                "price": report.price,
                "pieces": [
                    {"text": p.text, "start": p.start, "end": p.end, "ids": p.ids} for p in found
                ],
                "pieces_go_on": goes_on,
            }
            for report, (_, found, goes_on) in zip(reports, views, strict=True)
        ],
    }


def terminal_view(out: Output, pieces: Sequence[TokenPiece], *, colour: bool) -> str:
    """The pieces side by side, each in another colour than its neighbours; a line of the text
    ends where it did. Without ``colour`` a bar stands before each token, and ``?`` after what
    the vocabulary does not know."""
    return "".join(_coloured(out, pieces) if colour else _barred(pieces))


def _coloured(out: Output, pieces: Sequence[TokenPiece]) -> Iterator[str]:
    for index, piece in enumerate(pieces):
        style: Style = "unknown" if piece.unknown else TONES[index % len(TONES)]
        for line, is_last in _lines(piece.text):
            yield out.style(line, style if piece.ids else "dim") if line else ""
            yield "" if is_last else "\n"


def _barred(pieces: Sequence[TokenPiece]) -> Iterator[str]:
    at_start = True
    for piece in pieces:
        yield "" if at_start or not piece.ids else "│"
        for line, is_last in _lines(piece.text):
            yield line if is_last else f"{line}\n"
            at_start = not is_last
        yield "?" if piece.unknown else ""
        at_start = piece.text.endswith("\n")


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines with their signs, and whether each is the last."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        is_last = index == len(lines) - 1
        yield legible(line if is_last else f"{line}\n"), is_last
