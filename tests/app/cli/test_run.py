"""`lmstack run`: texts to read, files to JSON lines, going on after Ctrl-C."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import torch
import transformers
from tests.app.services import local_service
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lmstack.app import wiring
from lmstack.app.cli.task_io import result_lines
from lmstack.app.wiring import tasks
from lmstack.core import ContextLengthError, ScriptedModel
from lmstack.safety import verify
from lmstack.serve.tasks import (
    TASKS,
    Classification,
    Entities,
    Entity,
    ExtractedAnswer,
    ExtractedAnswers,
    Features,
    Fill,
    Filled,
    Generated,
    LabelRanking,
    PredictedLabel,
    Ranked,
    Ranking,
    RewardScore,
    Rewritten,
    TaskOutput,
    TextEmbedding,
)

if TYPE_CHECKING:
    from tests.app.conftest import Run


class Counting:
    """A task that labels each text with its length; ``bad`` cannot be done."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.weights: str | None = None
        self.stop_after = 10**9

    def is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, str)

    def __call__(self, inputs: Any) -> Any:
        return self._several([inputs])[0] if self.is_one(inputs) else self._several(inputs)

    def _several(self, inputs: Sequence[Any]) -> list[TaskOutput]:
        self.calls.append(list(inputs))
        if "bad" in inputs:
            raise ContextLengthError("the text is bad", hint="leave it out")
        self.stop_after -= len(inputs)
        if self.stop_after < 0:
            raise KeyboardInterrupt
        return [Classification((PredictedLabel("length", float(len(str(i)))),)) for i in inputs]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    made = Counting()

    @contextmanager
    def opened(
        task: str, model: str, options: dict[str, Any], weights: str | None
    ) -> Iterator[Counting]:
        made.opened = (task, model, options)  # type: ignore[attr-defined]
        made.weights = weights
        yield made

    monkeypatch.setattr(tasks, "open_task", opened)
    return made


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def scores(text: str) -> list[tuple[int, float]]:
    return [(line["index"], line["labels"][0]["score"]) for line in lines_of(text)]


@pytest.mark.parametrize(
    ("task", "needed"),
    [
        ("rerank", "--query QUERY"),
        ("question-answering", "--question QUESTION"),
        ("zero-shot", "--labels A,B,C"),
    ],
)
def test_what_a_task_needs_besides_a_text_is_named_before_anything_loads(
    run: Run, task: str, needed: str
) -> None:
    ran = run("run", task, "--model", "m", "a text", "--top-k", "2")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        f"error: lmstack run {task} needs {needed.split()[0]}",
        f"try:   lmstack run {task} --model m 'a text' --top-k 2 {needed}",
    ]


def test_texts_give_lines_to_read(run: Run, counting: Counting) -> None:
    ran = run("run", "classify", "--model", "m", "ab", "abcd")
    assert ran.code == 0
    assert ran.out == "length   2.0000\n\nlength   4.0000\n"


def test_json_of_one_text_is_an_object_and_of_several_a_list(run: Run, counting: Counting) -> None:
    one = run("run", "classify", "--model", "m", "ab", "--json").json
    assert one == {"labels": [{"label": "length", "score": 2.0}]}
    assert run("run", "classify", "--model", "m", "ab", "cd", "--json").json == [one, one]


def test_options_go_to_the_task_under_their_names(run: Run, counting: Counting) -> None:
    run(
        *("run", "qa", "x", "--model", "m", "--question", "who", "--top-k", "3", "--no-answer"),
        *("--set", "stride=5", "--set", "note=plain text"),
    )
    name, model, options = counting.opened  # type: ignore[attr-defined]
    assert (name, model) == ("qa", "m")
    assert options == {
        **{"question": "who", "top_k": 3, "no_answer": True, "stride": 5, "note": "plain text"}
    }


def test_a_file_gives_a_json_line_for_each_line(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\nbb\r\n\nlast")
    ran = run("run", "classify", "--model", "m", "--file", str(file))
    assert scores(ran.out) == [(0, 1.0), (1, 2.0), (2, 0.0), (3, 4.0)]
    assert "4 inputs" in ran.err


def test_lines_of_jsonl_are_texts_or_objects(run: Run, counting: Counting, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('"a\\nb"\n{"text": "x"}\n')
    run("run", "classify", "--model", "m", "--file", str(file))
    assert counting.calls == [["a\nb", {"text": "x"}]]


def test_a_whole_file_is_one_text(run: Run, counting: Counting, tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\nb\n")
    ran = run("run", "classify", "--model", "m", "--file", str(file), "--whole")
    assert counting.calls == [["a\nb\n"]]
    assert scores(ran.out) == [(0, 4.0)]


def test_standard_input_is_read_by_line(
    run: Run, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nbb\n")))
    assert scores(run("run", "classify", "--model", "m", "-").out) == [(0, 1.0), (1, 2.0)]


def test_an_input_that_cannot_be_done_gets_a_line_and_the_rest_goes_on(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    file.write_text("a\nbad\nbb\n")
    ran = run("run", "classify", "--model", "m", "--file", str(file), "--output", str(output))
    found = lines_of(output.read_text())
    assert [line["index"] for line in found] == [0, 1, 2]
    assert found[1]["error"]["message"] == "the text is bad"
    assert ran.code == 1
    assert "1 of 3 inputs could not be done" in ran.err


def test_what_was_written_before_ctrl_c_is_kept_and_gone_on_with(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    file.write_text("".join(f"{'x' * (n % 9)}\n" for n in range(100)))
    command = ("run", "classify", "--model", "m", "--file", str(file), "--output", str(output))
    counting.stop_after = 70
    ran = run(*command)
    assert ran.code == 130
    assert f"{output} keeps the first 64 results" in ran.err
    assert "--resume" in ran.err
    with output.open("a") as half:
        half.write('{"index": 64, "lab')
    counting.stop_after = 10**9
    assert run(*command, "--resume").code == 0
    assert scores(output.read_text()) == [(n, float(n % 9)) for n in range(100)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_results_before_the_disk_was_full_are_kept_and_gone_on_with(
    run: Run,
    counting: Counting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    file, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    file.write_text("".join(f"{'x' * (n % 9)}\n" for n in range(40)))
    command = ("run", "classify", "--model", "m", "--file", str(file), "--output", str(output))

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 1000:
                raise OSError(number, "No space left on device")
            return super().write(data)

    def full(path: Path, mode: str) -> io.BufferedWriter:
        return io.BufferedWriter(Full(path, mode))  # type: ignore[arg-type]

    opened = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "open", lambda p, mode: full(p, mode) if p == output else opened(p, mode)
        )
        ran = run(*command)
    assert ran.code == 1
    assert f"{output} cannot be written: no space left" in ran.err
    assert "--resume" in ran.err
    assert 0 < len(scores(output.read_text())) < 40
    assert run(*command, "--resume").code == 0
    assert scores(output.read_text()) == [(n, float(n % 9)) for n in range(40)]


def test_without_resume_a_result_file_is_written_anew(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    file.write_text("a\n")
    output.write_text("old\n")
    run("run", "classify", "--model", "m", "--file", str(file), "--output", str(output))
    assert scores(output.read_text()) == [(0, 1.0)]


def test_lines_of_text_are_the_documents_of_one_query(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\nb\n")
    run("run", "rerank", "--query", "q", "--file", str(file))
    run("run", "rerank", "--query", "q", "a", "b")
    assert counting.calls == [[["a", "b"]], ["a", "b"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "has no text to work on"),
        (("x", "--file", "f"), "texts and --file are both given"),
        (("x", "--output", "f"), "--output is for files"),
        (("x", "--whole"), "--whole is for files"),
        (("--file", "f", "--resume"), "--resume needs the file to go on with"),
        (("x", "--set", "novalue"), "--set is 'novalue'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Run, counting: Counting, arguments: tuple[str, ...], message: str
) -> None:
    ran = run("run", "classify", "--model", "m", *arguments)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"ok\n\xff\nfine\n", "in.txt", "is not UTF-8 (byte 0xff)"),
        (b'"ok"\n{x\n"fine"\n', "in.jsonl", "is no JSON"),
        (b'"ok"\n' + b"[" * 100_000 + b'\n"fine"\n', "in.jsonl", "is no JSON"),
    ],
)
def test_a_line_that_cannot_be_read_does_not_cost_the_lines_around_it(
    run: Run, counting: Counting, tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    ran = run("run", "classify", "--model", "m", "--file", str(tmp_path / name))
    first, unread, last = lines_of(ran.out)
    assert scores(json.dumps(first) + "\n" + json.dumps(last)) == [(0, 2.0), (2, 4.0)]
    assert unread["index"] == 1
    assert f"line 2 of {tmp_path / name} {message}" in unread["error"]["message"]
    assert ran.code == 1
    assert "1 of 3 inputs could not be done" in ran.err


def test_a_document_that_cannot_be_read_is_not_left_out_of_a_ranking(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "in.txt"
    file.write_bytes(b"a\n\xff\n")
    ran = run("run", "rerank", "--query", "q", "--file", str(file))
    assert (ran.code, counting.calls) == (1, [])
    assert f"line 2 of {file} is not UTF-8" in ran.err


@pytest.mark.parametrize(("name", "message"), [("no.txt", "there is no file"), (".", "cannot be")])
def test_a_file_that_cannot_be_opened_is_named(
    run: Run, counting: Counting, tmp_path: Path, name: str, message: str
) -> None:
    ran = run("run", "classify", "--model", "m", "--file", str(tmp_path / name))
    assert ran.code == 1
    assert message in ran.err
    assert "check the path" in ran.err


def test_a_setting_of_brackets_without_end_is_text(run: Run, counting: Counting) -> None:
    brackets = "[" * 100_000
    assert run("run", "classify", "--model", "m", "--set", f"query={brackets}", "x").code == 0
    assert counting.opened[2] == {"query": brackets}  # type: ignore[attr-defined]


def test_a_task_without_a_model_of_its_own_asks_for_one(run: Run) -> None:
    ran = run("run", "zero-shot", "x", "--labels", "a")
    assert ran.code == 1
    assert "try:   lmstack run zero-shot --model NAME" in ran.err


def test_a_task_that_is_not_there_names_the_nearest(run: Run) -> None:
    assert "did you mean 'summarize'?" in run("run", "sumarize", "x").err


# -- with a real, tiny model -------------------------------------------------------------------


def tiny_bert(folder: Path, kind: str, *labels: str) -> Path:
    """A BERT with a word a token, and a head that scores ``labels``."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    config = transformers.BertConfig(
        **{"vocab_size": 12, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.8},
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    getattr(transformers, kind)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    return tiny_bert(folder, "BertForTokenClassification", "O", "B-X", "I-X")


def test_a_folder_tags_a_text(run: Run, tagger: Path) -> None:
    found = run("run", "ner", "A b c d e", "--model", str(tagger), "--json").json["entities"]
    assert found
    assert {entity["label"] for entity in found} == {"X"}
    lines = run("run", "ner", "A b c d e", "--model", str(tagger)).out.splitlines()
    assert [line.split("   ")[1] for line in lines] == [
        "A b c d e"[entity["start"] : entity["end"]] for entity in found
    ]


def test_the_error_of_a_line_does_not_call_it_by_the_number_of_another(
    run: Run, tagger: Path, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('"ok"\n"\\ud800"\n')
    ran = run("run", "ner", "--model", str(tagger), "--file", str(file))
    error = lines_of(ran.out)[1]["error"]
    assert error["message"].startswith("the input holds half a surrogate pair")


def test_an_option_of_another_task_is_refused_by_name(run: Run, tagger: Path) -> None:
    ran = run("run", "ner", "a", "--model", str(tagger), "--query", "q")
    assert ran.code == 1
    assert "token-classification has no option 'query'" in ran.err


def test_a_task_that_the_model_cannot_do_names_those_it_can(run: Run, tagger: Path) -> None:
    ran = run("run", "fill-mask", "a", "--model", str(tagger))
    assert "cannot do fill-mask" in ran.err
    assert "try:   it can do token-classification, feature-extraction" in ran.err


# -- what `lmstack up` serves beside answers -----------------------------------------------------


async def test_up_serves_models_under_their_names_for_what_they_can_do(
    home: Path, docs: Path, embedder: Any, tmp_path: Path
) -> None:
    ranks = tiny_bert(tmp_path / "ranks", "BertForSequenceClassification", "score")
    judges = tiny_bert(tmp_path / "judges", "BertForSequenceClassification", "good", "bad")
    also = tasks.load_also([str(ranks), str(judges)])
    service = local_service(docs, ScriptedModel(name="tiny"), embedder, also=also)
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        listed = (await client.get("/v1/models")).json()["data"]
        body = {"model": "ranks", "query": "a", "documents": ["a b", "c"]}
        ranked = (await client.post("/v1/rerank", json=body)).json()["results"]
        body = {"model": "judges", "input": "a b"}
        judged = (await client.post("/v1/classify", json=body)).json()["data"]
        body = {"model": "judges", "task": "text-classification", "input": "a b"}
        labelled = (await client.post("/v1/tasks", json=body)).json()["data"]
    service.close()
    assert {"ranks", "judges"} <= {entry["id"] for entry in listed}
    assert sorted(entry["index"] for entry in ranked) == [0, 1]
    assert sum(judged[0]["probs"]) == pytest.approx(1, abs=1e-5)
    assert labelled[0]["labels"][0]["score"] == pytest.approx(max(judged[0]["probs"]))


async def test_what_up_serves_beside_its_model_passes_the_same_guards(
    home: Path, docs: Path, embedder: Any
) -> None:
    writer: Any = ScriptedModel(["Das Haus"], name="writer")
    also = tasks.Also({"writer": writer})
    service = local_service(docs, ScriptedModel(name="tiny"), embedder, also=also)
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        body = {"model": "writer", "prompt": "translate English to German: the house"}
        answer = (await client.post("/v1/completions", json=body)).json()
        hidden = {**body, "prompt": "a" + "\U000e0041" * 9}
        refused = await client.post("/v1/completions", json=hidden)
    service.close()
    assert answer["choices"][0]["text"] == "Das Haus"
    assert verify(wiring.audit_path()).records >= 1
    assert refused.status_code == 403


def test_up_hands_the_names_of_further_models_on(
    run: Run, docs: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(wiring, "service", lambda _, **options: asked.update(options))
    monkeypatch.setattr(
        "lmstack.app.server.serve.serve", lambda listener, load, *_: (listener.close(), load())
    )
    run("up", "docs", "--port", "0", "--also", str(tagger), "--also", str(tagger))
    assert asked["also"] == [str(tagger)] * 2


def test_up_names_a_model_that_is_not_there_before_it_loads(
    run: Run, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    ran = run("up", "docs", "--also", "no-such-model")
    assert ran.code == 1
    assert "no-such-model" in ran.err


# -- how results read --------------------------------------------------------------------------

EVIL = "\x1b[31mred\n"
VECTOR = np.arange(8, dtype=np.float32)
RESULTS: dict[str, TaskOutput] = {
    "text-classification": Classification((PredictedLabel(EVIL, 0.5),)),
    "zero-shot-classification": LabelRanking((PredictedLabel(EVIL, 0.5),)),
    "token-classification": Entities((Entity("X", 0.5, EVIL, 0, 3),)),
    "fill-mask": Filled(((Fill(EVIL, 0.5, 3, EVIL),), (Fill("b", 0.5, 3, "b"),))),
    "question-answering": ExtractedAnswers(
        (ExtractedAnswer(EVIL, 0.5, 0, 3), ExtractedAnswer("", 0.1, 0, 0))
    ),
    "feature-extraction": Features((EVIL,), VECTOR[None]),
    "sentence-embedding": TextEmbedding(VECTOR),
    "reranking": Ranking((Ranked(3, 0.5, EVIL * 50),)),
    "reward": RewardScore(0.5),
    "text-generation": Generated(EVIL, "stop", 3, ("other",)),
    "chat": Generated(EVIL, "stop", 3),
    "summarization": Rewritten(EVIL, 1),
    "translation": Rewritten("", 0),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_result_cannot_move_the_cursor(task: str) -> None:
    lines = result_lines(task, RESULTS[task], EVIL)
    assert lines
    assert all(line.isprintable() for line in lines)
    json.dumps(RESULTS[task].to_json(), allow_nan=False)
