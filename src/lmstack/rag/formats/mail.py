"""E-mail: who wrote to whom and when, what they wrote, and what they attached.

The text begins with the main headers and goes on with the body: plain text if there is any, else
the HTML part as a page. Lines quoted from earlier mails are quote blocks. Each attachment is a
section with its name; its text is read if its format is known, within the same limits. Broken
encodings are read as well as they can be. Does not check signatures or decrypt.
"""

from __future__ import annotations

import datetime
import email
import email.errors
import email.header
import email.policy
import email.utils
import os
import re
from collections.abc import Callable, Iterator, Sequence
from email.message import Message

from lmstack.rag.documents import Block, LoadConfig, Parsed, ProblemError, Section
from lmstack.rag.filters import Value
from lmstack.rag.formats.decoding import decode_declared, text_codec
from lmstack.rag.formats.html import read_html
from lmstack.rag.formats.markdown import TextWriter

__all__ = ["parse_mail"]

# Parses an attachment by its name.
ReadPart = Callable[[bytes, str, LoadConfig], Parsed]
MAX_PARTS, MAX_DEPTH, MAX_HEADER = 1_000, 20, 2_000
_QUOTED = re.compile(r"[ \t]*>")
_SHOWN = (("From", "from"), ("To", "to"), ("Cc", "cc"), ("Date", "date"), ("Subject", "subject"))


def parse_mail(data: bytes, _path: str, config: LoadConfig, read_part: ReadPart) -> Parsed:
    """The mail in ``data``; raises `ProblemError`. An attachment that cannot be read is named in
    the fields and costs only itself. A mail within it has one level less of depth."""
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        parts = list(_leaves(message))
    except RecursionError:
        raise _too_deep() from None
    if not message.keys() and not message.is_multipart():
        raise ProblemError("format", "has no headers of a mail", "call it .txt if it is text")
    headers = {key: _header(message, name) for name, key in _SHOWN}
    writer = TextWriter(config)
    shown = [f"{name}: {headers[key]}" for name, key in _SHOWN if headers[key]]
    writer.block("matter", "\n".join(shown))
    bodies, attached = _told_apart(parts)
    room = config.max_unpacked_bytes
    for part in bodies:
        payload = _payload(part)
        room -= len(payload)
        _write_body(writer, part, payload)
    failed: list[str] = []
    for part in attached:
        payload = _payload(part)
        room -= len(payload)
        if room < 0:
            raise ProblemError(
                "size",
                f"unfolds into more than {config.max_unpacked_bytes / 1e6:.0f} MB",
                "save its attachments apart, or raise max_unpacked_bytes",
            )
        failed += _attach(writer, part, payload, config, read_part)
    fields = _fields(headers, [_name(part) for part in attached], failed)
    return Parsed(writer.text(), headers["subject"], writer.sections(), writer.blocks, (), fields)


def _too_deep() -> ProblemError:
    return ProblemError(
        "format",
        f"holds parts within parts more than {MAX_DEPTH} deep",
        "save what is in it as files of their own",
    )


def _leaves(message: Message) -> Iterator[Message]:
    """Parts that hold something themselves; a mail within the mail is one part."""
    waiting = [(message, 0)]
    seen = 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        if seen > MAX_PARTS:
            raise ProblemError(
                "size", f"has more than {MAX_PARTS:,} parts", "save its attachments apart"
            )
        # Only of parts that hold others: the text of another may be in a broken encoding.
        inside = part.get_payload() if part.is_multipart() else None
        if part.get_content_type() == "message/rfc822" and depth:
            yield part
        elif isinstance(inside, list):
            # Of alternatives, the first is the plainest.
            chosen = [p for p in inside if isinstance(p, Message)]
            if part.get_content_subtype() == "alternative":
                plain = [p for p in chosen if p.get_content_type() == "text/plain"]
                full = [p for p in plain if _payload(p).strip()]
                chosen = full[:1] or [p for p in chosen if p not in plain][:1] or plain
            waiting += [(p, depth + 1) for p in reversed(chosen)]
        else:
            yield part


def _told_apart(parts: list[Message]) -> tuple[list[Message], list[Message]]:
    bodies: list[Message] = []
    attached: list[Message] = []
    for part in parts:
        text = part.get_content_type() in ("text/plain", "text/html")
        named = bool(_filename(part)) or part.get_content_disposition() == "attachment"
        (bodies if text and not named else attached).append(part)
    return bodies, attached


def _payload(part: Message) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inside = part.get_payload() if part.is_multipart() else None
        first = inside[0] if isinstance(inside, list) and inside else None
        try:
            return first.as_bytes() if isinstance(first, Message) else b""
        except RecursionError:
            raise _too_deep() from None
        except (UnicodeError, LookupError, ValueError, TypeError, AttributeError):
            return b""
    try:
        payload = part.get_payload(decode=True)
    except (UnicodeError, LookupError, ValueError, AssertionError):
        payload = None
    return payload if isinstance(payload, bytes) else b""


def _filename(part: Message) -> str:
    try:
        return _decoded(part.get_filename() or "")
    except (UnicodeError, LookupError, ValueError, TypeError):
        return ""


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except (UnicodeError, LookupError, ValueError, TypeError):
        return None


def _name(part: Message) -> str:
    name = _filename(part)
    name = os.path.basename(name.replace("\\", "/"))[:200]
    if not name and part.get_content_type() == "message/rfc822":
        return "forwarded.eml"
    return name or part.get_content_type().replace("/", "-")


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    return _decoded(str(value)) if value is not None else ""


def _decoded(value: str) -> str:
    """A header's value, encoded words decoded, on one line."""
    try:
        pieces = email.header.decode_header(value[: 4 * MAX_HEADER])
    except (email.errors.HeaderParseError, ValueError, LookupError):
        pieces = [(value, None)]
    parts = [
        decode_declared(piece, charset) if isinstance(piece, bytes) else piece
        for piece, charset in pieces
    ]
    # Bytes that were no ASCII stand in compat32's strings as half surrogate pairs.
    raw = "".join(parts).encode("utf-8", "surrogateescape")
    return " ".join(decode_declared(raw, None).split())[:MAX_HEADER]


def _write_body(writer: TextWriter, part: Message, payload: bytes) -> None:
    charset = _charset(part)
    text = decode_declared(payload, charset if charset and text_codec(charset) else None)
    text = text.replace("\0", "").replace("\r\n", "\n").removeprefix("\ufeff")
    if part.get_content_type() == "text/html":
        page = read_html(text)
        _append(writer, page.text, page.blocks, page.sections)
        return
    for block in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text):
        for quoted, lines in _runs(block.split("\n")):
            writer.block("quote" if quoted else "paragraph", "\n".join(lines).rstrip())


def _runs(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """Neighbouring lines that are all quoted, or none of them."""
    run: list[str] = []
    quoted = False
    for line in lines:
        now = _QUOTED.match(line) is not None
        if run and now != quoted:
            yield quoted, run
            run = []
        quoted = now
        run.append(line)
    if run:
        yield quoted, run


def _append(
    writer: TextWriter, text: str, blocks: Sequence[Block], sections: Sequence[Section]
) -> None:
    """A text with its structure, below what is there."""
    if not text.strip():
        return
    if writer.length:
        writer.put("\n\n")
    offset = writer.length
    writer.put(text)
    for block in blocks:
        header = block.header
        moved = (header[0] + offset, header[1] + offset) if header else None
        writer.blocks.append(Block(block.kind, offset + block.start, offset + block.end, moved))
    writer.headings += [(offset + s.start, s.level + 1, s.title) for s in sections if s.level]


def _attach(
    writer: TextWriter, part: Message, payload: bytes, config: LoadConfig, read_part: ReadPart
) -> list[str]:
    """Name and text of an attachment; what went wrong with it."""
    name = _name(part)
    writer.heading(1, f"Attachment: {name}")
    if not payload:
        return []
    if len(payload) > config.max_file_bytes:
        return [f"{name}: larger than max_file_bytes"]
    try:
        deeper = min(config.max_depth, MAX_DEPTH) - 1
        if not deeper:
            raise _too_deep()
        parsed = read_part(payload, name, config.replace(max_depth=deeper))
    except ProblemError as error:
        return [] if error.kind == "format" else [f"{name}: {error.message}"]
    _append(writer, parsed.text, parsed.blocks, parsed.sections)
    return []


def _fields(headers: dict[str, str], attached: list[str], failed: list[str]) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if headers["from"]:
        fields["author"] = fields["from"] = headers["from"]
    if headers["to"]:
        fields["to"] = tuple(_addresses(headers["to"]))
    if headers["cc"]:
        fields["cc"] = tuple(_addresses(headers["cc"]))
    date = _iso(headers["date"])
    if date:
        fields["date"] = date
    if attached:
        fields["attachments"] = tuple(attached)
    if failed:
        fields["warnings"] = tuple(failed)
    return fields


def _addresses(value: str) -> list[str]:
    pairs = email.utils.getaddresses([value])
    return [address.lower() or name for name, address in pairs if address or name]


def _iso(value: str) -> str:
    try:
        date = email.utils.parsedate_to_datetime(value)
        return (
            date.astimezone(datetime.UTC).date().isoformat()
            if date.tzinfo
            else (date.date().isoformat())
        )
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
