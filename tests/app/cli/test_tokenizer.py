"""`lmstack tokenizer`: what is written, and what is said when it cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import transformers
from tests.text.spm import model_bytes

from lmstack.text import Tokenizer

TEXT = "".join(f"The state of the union in {year} is strong.\n" for year in range(1790, 2020))


COMMAND = [sys.executable, "-m", "lmstack", "tokenizer"]


@pytest.fixture
def lmstack(run):
    return lambda *arguments: run("tokenizer", *map(str, arguments))


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


def test_train_writes_a_folder_that_transformers_loads(lmstack, corpus, tmp_path):
    out = tmp_path / "out"
    done = lmstack(
        *("train", corpus, "--vocab-size", 300, "--chat-template", "chatml", "--out", out),
        *("--special", "<tool>", "--json"),
    )
    assert done.code == 0, done.err
    result = done.json
    assert result["vocab_size"] == 300
    assert result["bytes"] == len(TEXT)
    assert list(result["special_tokens"]) == [
        *("<|endoftext|>", "<tool>", "<|im_start|>", "<|im_end|>")
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    ours = Tokenizer.from_folder(out)
    assert theirs(TEXT).input_ids == ours.encode(TEXT)
    chat = [{"role": "user", "content": "hi"}]
    assert theirs.apply_chat_template(chat, tokenize=False) == "<|im_start|>user\nhi<|im_end|>\n"


def test_standard_input_gives_what_the_file_gives(lmstack, corpus, tmp_path):
    size = ("--vocab-size", "300")
    assert lmstack("train", corpus, *size, "--out", tmp_path / "a").code == 0
    command = [*COMMAND, "train", "-", *size, "--out", str(tmp_path / "b")]
    subprocess.run(command, input=TEXT, capture_output=True, text=True, check=True)
    one, two = (Tokenizer.from_folder(tmp_path / name) for name in "ab")
    assert one.encode(TEXT) == two.encode(TEXT)


def test_text_too_small_for_the_size_is_said(lmstack, corpus, tmp_path):
    done = lmstack("train", corpus, "--vocab-size", 5000, "--out", tmp_path / "out")
    assert done.code == 0
    assert "no more than" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("missing.txt",), 1, "missing.txt"),
        (("CORPUS", "--kind", "bpee"), 1, "did you mean 'bpe'"),
        (("CORPUS", "--vocab-size", "12"), 1, "vocab_size"),
        (("CORPUS", "-"), 2, "standard input"),
        (("CORPUS", "--chat-template", "none.jinja"), 1, "none.jinja"),
        (("CORPUS", "--kind", "wordpiece", "--pattern", "llama3"), 1, "own way"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    lmstack, corpus, tmp_path, arguments, code, said
):
    given = [corpus if argument == "CORPUS" else argument for argument in arguments]
    done = lmstack("train", *given, "--out", tmp_path / "out")
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_folder_of_a_model_is_not_overwritten(lmstack, corpus, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    done = lmstack("train", corpus, "--out", tmp_path)
    assert done.code == 1
    assert "holds a model" in done.err


def test_ctrl_c_while_merging_writes_nothing(tmp_path):
    corpus = tmp_path / "words.txt"
    # Hundreds of thousands of different words: the merging takes a while.
    corpus.write_text("\n".join(f"{n * 7919 % 10**7:x}{n:x}" for n in range(400_000)))
    out = tmp_path / "out"
    command = [*COMMAND, "train", str(corpus)]
    process = subprocess.Popen(
        [*command, "--vocab-size", "900000", "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    time.sleep(3)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was written" in said
    assert not out.exists()


def test_convert_writes_any_vocabulary_as_a_folder(lmstack, tmp_path):
    pieces = [("<unk>", 0.0, 2), ("▁", -3.0, 1), ("a", -1.0, 1), ("b", -2.0, 1), ("ab", -0.5, 1)]
    source = tmp_path / "spiece.model"
    source.write_bytes(model_bytes(pieces, {3: 2}))
    done = lmstack("convert", source, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert done.json["vocab_size"] == 5
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("abba").input_ids == Tokenizer.from_file(source).encode("abba")


def test_convert_of_something_else_says_what_is_known(lmstack, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x00\x01nothing")
    done = lmstack("convert", tmp_path / "x.bin", "--out", tmp_path / "out")
    assert done.code == 1
    assert "no vocabulary that is known" in done.err
