"""Frames between processes: whole ones, of bounded size, and nothing else."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

from lmstack.agents.sandbox.inside import wire


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("message", [None, {"a": [1, "ä"]}, "x" * 70_000])
def test_a_frame_is_its_length_and_json(message: Any) -> None:
    stream = io.BytesIO()
    wire.send(stream, message)
    assert stream.getvalue() == framed(json.dumps(message).encode())
    stream.seek(0)
    assert wire.receive(stream) == message


def test_a_frame_is_flushed_and_one_of_the_limit_is_not_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 9)
    raw = io.BytesIO()
    buffered: Any = io.BufferedWriter(raw)  # type: ignore[arg-type]
    wire.send(buffered, "x" * 7)
    assert wire.receive(io.BytesIO(raw.getvalue())) == "x" * 7
    with pytest.raises(wire.WireError, match="10 bytes, more than 9"):
        wire.send(buffered, "x" * 8)
    with pytest.raises(wire.WireError, match="10 bytes, more than 9"):
        wire.receive(io.BytesIO(framed(b'"xxxxxxxx"')))


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\1", framed(b"12")[:-1]])
def test_a_frame_that_is_cut_is_an_end(data: bytes) -> None:
    with pytest.raises(wire.WireError, match="it ended"):
        wire.receive(io.BytesIO(data))


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_a_frame_that_is_no_json_is_said(body: bytes) -> None:
    with pytest.raises(wire.WireError, match="no JSON: "):
        wire.receive(io.BytesIO(framed(body)))


def test_who_does_not_listen_has_ended() -> None:
    class Closed(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(wire.WireError, match="it ended"):
        wire.send(Closed(), 1)


@pytest.mark.parametrize("blobs", [[], [b"", b"\0\xff", bytes(100_000)]])
def test_messages_carry_bytes_behind_them(blobs: list[bytes]) -> None:
    read, write = os.pipe()
    try:
        for given in ([], blobs) if not blobs else (blobs[:2],):
            wire.send_message(write, {"do": "x"}, given)
            assert wire.receive_message(read) == ({"do": "x"}, given)
        data = wire.packed({"do": "x"}, blobs)
        taken = io.BytesIO(data)
        assert wire.unpacked(taken.read) == ({"do": "x"}, blobs)
        os.write(write, data[: min(len(data) - 1, 5)])
        os.close(write)
        write = -1
        with pytest.raises(wire.WireError, match="it ended"):
            wire.receive_message(read)
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def test_what_is_written_or_read_in_pieces_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    held = bytearray()

    def write(fd: int, data: Any) -> int:
        held.extend(data[:3])
        return min(3, len(data))

    def read(fd: int, size: int) -> bytes:
        piece = bytes(held[: min(size, 2)])
        del held[: len(piece)]
        return piece

    monkeypatch.setattr(wire.os, "write", write)
    monkeypatch.setattr(wire.os, "read", read)
    wire.send_message(1, {"do": "x"}, [b"12345"])
    assert wire.receive_message(0) == ({"do": "x"}, [b"12345"])
    assert held == b""


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (True, True),
        (-255, ["int", "-ff"]),
        (0.5, ["float", "0x1.0000000000000p-1"]),
        (2j, ["complex", ["0x0.0p+0", "0x1.0000000000000p+1"]]),
        (b"\xff", ["bytes", "ff"]),
        ((1, "a"), ["tuple", [["int", "1"], "a"]]),
        ({1: None}, ["dict", [[["int", "1"], None]]]),
    ],
)
def test_a_value_is_its_type_and_its_text(value: Any, form: Any) -> None:
    assert wire.encoded(value) == form
    assert wire.decoded(form) == value


class _Int(int):
    pass


@pytest.mark.parametrize("value", [print, _Int(1), [object()], {1: print}])
def test_what_is_no_plain_data_is_named(value: Any) -> None:
    with pytest.raises(wire.NotPlainError, match=r"a (builtin_function_or_method|_Int|object)"):
        wire.encoded(value)


@pytest.mark.parametrize(
    "form", [["x", 1], ["int", "zz"], 3, ["int"], ["list", 3], ["set", [["list", []]]]]
)
def test_what_no_value_has_is_said(form: Any) -> None:
    with pytest.raises(wire.WireError, match="no value: "):
        wire.decoded(form)
