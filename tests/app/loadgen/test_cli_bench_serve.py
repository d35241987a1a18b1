"""`lmstack bench serve`: against a real server, against strict fakes, and its mistakes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.byte_tokens import byte_level

from lmstack.app.cli import main
from lmstack.engine import EngineConfig
from lmstack.model import Transformer, TransformerConfig
from lmstack.registry import GenerationDefaults, LoadedModel
from lmstack.serve import create_app
from lmstack.serve.local import LocalModel
from lmstack.text import ChatTemplate, Tokenizer

Serving = Callable[[Any], AbstractContextManager[str]]
Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    """``bench("serve", url, ...)``: exit code, output and errors."""
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LMSTACK_API_KEY", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["bench", *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def tiny() -> Iterator[LocalModel]:
    """A random model with its engine; a token is a byte."""
    tokenizer = Tokenizer.from_json(byte_level("<|end|>").to_str(), {"eos_token": "<|end|>"})
    torch.manual_seed(3)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=1024,
    )
    assert tokenizer.eos_id is not None
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}>")
    defaults = GenerationDefaults(frozenset({tokenizer.eos_id}))
    loaded = LoadedModel("tiny", None, Transformer(config).eval(), tokenizer, template, defaults)
    with LocalModel(loaded, EngineConfig(num_blocks=1000)) as model:
        yield model


def test_a_real_server_gives_every_token_that_was_asked_for(
    bench: Bench, serve: Serving, tiny: LocalModel, tmp_path: Path
) -> None:
    file, plot = tmp_path / "load.json", tmp_path / "load.svg"
    typed = ("--requests", "6", "--input-tokens", "200", "--output-tokens", "7", "--json")
    with serve(create_app(models={"tiny": tiny})) as url:
        code, out, _ = bench(
            *("serve", url, "--concurrency", "1,3", *typed),
            *("--output", str(file), "--plot", str(plot)),
        )
    assert code == 0
    found = json.loads(out)
    assert (found["model"], found["url"]) == ("tiny", f"{url}/v1/chat/completions")
    assert [level["load"] for level in found["levels"]] == [1, 3]
    for level in found["levels"]:
        assert (level["succeeded"], level["errors"], level["counted_by"]) == (6, {}, "usage")
        assert level["output_tokens"] == 7
        assert level["prompt_tokens"] == pytest.approx(200, abs=40)
        assert 0 < level["first_token"]["p50"] <= level["answer"]["p50"]
    raw = json.loads(file.read_text())
    assert raw["levels"] == found["levels"]
    assert [len(rows) for rows in raw["requests"]] == [6, 6]
    assert raw["requests"][0][0]["output_tokens"] == 7
    assert "Time to first token" in plot.read_text()


def test_an_open_loop_in_words(
    bench: Bench, serve: Serving, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake(words=9)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # not for a server on this machine
    with serve(server) as url:
        code, out, err = bench(
            *("serve", url, "--rate", "500", "--requests", "12", "--output-tokens", "5"),
            *("--endpoint", "completions", "--body", '{"top_p": 0.5}'),
        )
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("500 requests/s: 12 of 12 requests answered in ")
    rows = [line.split()[0] for line in lines[3:8]]
    assert rows == ["P50", "first", "between", "a", "whole"]
    assert "note: 128 tokens in, 5 tokens out on average; output counted by the server's usage" in (
        lines
    )
    assert "asking fake at " in err
    assert {body["top_p"] for body in server.bodies} == {0.5}
    assert {len(body["prompt"].split()) for body in server.bodies[3:]} == {128}


def test_refused_requests_are_counted_and_not_tried_again(
    bench: Bench, serve: Serving, fake: Any
) -> None:
    # Two requests find out what the server takes; of those that count every third is refused.
    server = fake(status=lambda n: 429 if n > 1 and n % 3 == 0 else None)
    with serve(server) as url:
        code, out, _ = bench("serve", url, "--requests", "12", "--json")
    assert code == 0
    [level] = json.loads(out)["levels"]
    assert (level["succeeded"], level["errors"]) == (8, {"429": 4})
    assert len(server.bodies) == 2 + 12


def test_a_load_that_nothing_answers_is_an_error(
    bench: Bench, serve: Serving, fake: Any, tmp_path: Path
) -> None:
    file = tmp_path / "raw.json"
    with serve(fake(status=lambda n: 503 if n > 1 else None)) as url:
        code, out, err = bench("serve", url, "--requests", "3", "-o", str(file))
    assert (code, out) == (1, "")
    assert "error: all 3 requests failed (503): it is 503" in err
    assert len(json.loads(file.read_text())["requests"][0]) == 3


def test_a_rate_so_low_that_nothing_is_sent_is_said(
    bench: Bench, serve: Serving, fake: Any
) -> None:
    with serve(fake()) as url:
        code, out, err = bench("serve", url, "--rate", "0.001", "--duration", "0.2")
    assert (code, out) == (1, "")
    assert "error: no request fell into the time that was measured" in err
    assert "--duration" in err


def test_ctrl_c_gives_the_figures_so_far(
    bench: Bench, serve: Serving, fake: Any, tmp_path: Path
) -> None:
    server, file = fake(words=2, delay_s=0.02), tmp_path / "raw.json"

    def interrupt() -> None:
        while len(server.bodies) < 10:
            threading.Event().wait(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    with serve(server) as url:
        thread = threading.Thread(target=interrupt)
        thread.start()
        code, out, err = bench(
            *("serve", url, "--concurrency", "2,4", "--requests", "500", "-o", str(file)),
            *("--json", "--plot", str(tmp_path / "none.svg")),
        )
        thread.join()
    assert code == 130
    assert "stopped: these are the figures so far" in err
    found = json.loads(out)
    [level] = found["levels"]
    assert found["interrupted"]
    assert 1 <= level["succeeded"] < 500
    assert level["requests"] == level["succeeded"] + level["unfinished"]
    assert json.loads(file.read_text())["levels"] == found["levels"]
    assert not (tmp_path / "none.svg").exists()


def test_the_key_of_the_variable_is_sent_and_never_shown(
    bench: Bench, serve: Serving, fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "raw.json"
    with serve(fake(key="sesame")) as url:
        code, _, err = bench("serve", url, "--requests", "2")
        assert (code, "export LMSTACK_API_KEY=KEY" in err) == (1, True)
        monkeypatch.setenv("MY_KEY", "sesame")
        code, out, err = bench(
            *("serve", url, "--requests", "2", "--api-key-env", "MY_KEY", "-v", "-o", str(file))
        )
    assert code == 0
    assert "sesame" not in out + err + file.read_text()


def test_prompts_of_a_file_are_asked_in_turn(
    bench: Bench, serve: Serving, fake: Any, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": "first"},
        {"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "second"}]},
        {"prompt": "half a pair \ud800", "max_tokens": 2},
    ]
    prompts.write_text("\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    server = fake()
    with serve(server) as url:
        typed = ("--prompts", str(prompts), "--requests", "4", "--concurrency", "1", "--json")
        code, out, _ = bench("serve", url, *typed, "--output-tokens", "9")
    assert code == 0
    asked = server.bodies[2:]
    assert [b["messages"][-1]["content"] for b in asked] == [
        *("first", "second", "half a pair \ud800", "first")
    ]
    assert [b["max_tokens"] for b in asked] == [9, 9, 2, 9]
    assert json.loads(out)["input_tokens"] is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "", "holds no prompt"),
        ("p.jsonl", '{"prompt": "x"}\n{oops', "p.jsonl:2 is not JSON"),
        ("p.jsonl", "[1]", "not an object"),
        ("p.jsonl", '{"text": "x"}', "neither a prompt nor messages"),
        ("p.jsonl", '{"messages": [{"role": "user"}]}', "neither a prompt nor messages"),
        ("p.jsonl", '{"prompt": "x", "max_tokens": 0}', "max_tokens is 0"),
    ],
)
def test_a_damaged_file_of_prompts_names_its_line(
    bench: Bench, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    code, _, err = bench("serve", "http://127.0.0.1:9", "--prompts", str(tmp_path / name))
    assert (code, said in err) == (1, True), err


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["ftp://host"], 1, "no address"),
        (["h", "--concurrency", "0"], 2, "--concurrency is '0'"),
        (["h", "--concurrency", "1,x"], 2, "--concurrency is '1,x'"),
        (["h", "--concurrency", "1.5"], 2, "--concurrency is '1.5'"),
        (["h", "--rates", "nan"], 2, "--rates is 'nan'"),
        (["h", "--rates", "1,,2"], 2, "--rates is '1,,2'"),
        (["h", "--rates", "1", "--concurrency", "1"], 2, "two kinds of load"),
        (["h", "--requests", "0"], 2, "--requests"),
        (["h", "--prompts", "f", "--input-tokens", "9"], 2, "--prompts and --input-tokens"),
        (["h", "--prompts", "no/such"], 1, "no/such does not exist"),
        (["h", "--body", "[1]"], 2, "no JSON object"),
        (["h", "--plot", "x.svg"], 2, "only one load"),
        (["h", "--rates", "1,2", "--plot", "x.pdf"], 1, "no kind of picture"),
        (["h", "--output", "no/such/x.json"], 1, "no file can be written"),
        (["h", "--output", "."], 1, "no file can be written"),
        (["http://127.0.0.1:9"], 1, "no server answers at http://127.0.0.1:9/v1"),
    ],
)
def test_a_mistake_is_said_before_anything_is_asked(
    bench: Bench, typed: list[str], code: int, said: str
) -> None:
    found, out, err = bench("serve", *typed)
    assert (found, out, said in err) == (code, "", True), err
    assert "try:   " in err


def test_nothing_is_running_when_the_command_ends(bench: Bench, serve: Serving, fake: Any) -> None:
    server = fake(words=1, delay_s=0.01)
    with serve(server) as url:
        assert bench("serve", url, "--rates", "300", "--duration", "0.1")[0] == 0
        assert server.running == 0
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
