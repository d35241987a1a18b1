"""Files to examples: the same in threads as one by one, kept whole or not at all, and refused where
a file changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError, StoreError
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.train.data import prepare as prepare_module
from lmstack.train.data.copies import CopyFinder
from lmstack.train.data.examples import Example
from lmstack.train.data.fingerprint import DataFile, data_files, fingerprint
from lmstack.train.data.formats import document_of
from lmstack.train.data.prepare import DataSelection, PreparedData, _Work, prepare
from lmstack.train.data.report import DataReport, Lengths
from lmstack.train.data.rows import Row
from lmstack.train.data.split import Split
from lmstack.train.data.store import ExampleWriter
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.masked import MaskedLM
from lmstack.train.objectives.objective import Reading

TEXTS = [f"row {n} says that {n * n} is the square of {n}" for n in range(300)]


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading(train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300)), None, 32)


def write(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run(folder: Path, reading: Reading, *data: Path, **settings: object) -> PreparedData:
    selection = DataSelection([str(path) for path in data], **settings)  # type: ignore[arg-type]
    return prepare(selection, CausalLM(), reading, folder / "examples")


def texts_of(prepared: Iterable[Example], tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(e.sequences[0], skip_special_tokens=True) for e in prepared]


def test_threads_keep_the_order_of_the_rows(tmp_path: Path, reading: Reading) -> None:
    shards = [write(tmp_path / f"{n}.jsonl", TEXTS[n * 100 : n * 100 + 100]) for n in range(3)]
    found = run(tmp_path, reading, *shards)
    expected = [e for text in TEXTS for e in CausalLM().encode(Row({"text": text}, ""), reading)]
    assert [e.sequences[0].tolist() for e in found.train] == [
        e.sequences[0].tolist() for e in expected
    ]
    assert found.report.rows == 300
    assert found.report.tokens == found.train.tokens
    assert found.report.lengths == Lengths.of(found.train.lengths)
    assert [file["path"] for file in found.report.files] == list(map(str, shards))


def test_what_was_encoded_is_opened_again_and_what_it_follows_from_counts(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)
    first = run(tmp_path, reading, data, validation=0.1)
    encodings = []
    encode = CausalLM.encode
    monkeypatch.setattr(
        CausalLM,
        "encode",
        lambda *given: encodings.append(1) or encode(*given),  # type: ignore
    )
    again = run(tmp_path, reading, data, validation=0.1)
    assert not encodings
    assert again.report == first.report
    assert again.fingerprint == first.fingerprint == fingerprint(data_files([data]))
    kept = again.folder / "report.json"
    assert sorted(p.name for p in kept.parent.iterdir()) == ["report.json", "train", "validation"]
    assert kept.read_text() == json.dumps(json.loads(kept.read_text()), indent=2) + "\n"
    renamed = data.rename(tmp_path / "g.jsonl")
    assert run(tmp_path, reading, renamed, validation=0.1).report.files[0]["path"] == str(renamed)
    assert not encodings
    run(tmp_path, reading, renamed, validation=0.2)
    assert len(encodings) == 300
    run(tmp_path, Reading(reading.tokenizer, None, 16), renamed, validation=0.2)
    assert len(encodings) == 600
    assert len([p for p in (tmp_path / "examples").iterdir() if p.is_dir()]) == 1


def test_the_name_of_a_store_follows_from_all_that_its_examples_do(reading: Reading) -> None:
    def key(selection: DataSelection | None = None, own: int = 1, **changes: Any) -> str:
        named = {"path": "a", "sha256": "1", "objective": CausalLM(), **changes}
        files = [DataFile(Path(named.pop("path")), 1, named.pop("sha256"), ())]
        objective = named.pop("objective")
        of, told = replace(reading, **named), lambda *_: None
        return _Work(selection or DataSelection(["a"]), objective, of, files, own, told).key()

    template: Any = SimpleNamespace(source="{{ x }}")
    other: Any = SimpleNamespace(digest="another")
    same = [key(), key(DataSelection(["b"], seed=0)), key(path="b")]
    others = [
        *(key(DataSelection(["a"], **{name: 1})) for name in ("validation", "seed", "strict")),
        *(key(DataSelection(["a"], deduplicate=True)), key(own=0), key(sha256="2")),
        *(key(objective=Failing()), key(objective=MaskedLM()), key(objective=MaskedLM(0.5))),
        *(key(template=template), key(template=SimpleNamespace(source="{{ y }}"))),
        key(max_length=31),
        *(key(segments=True), key(decoder_start=3), key(tokenizer=other)),
    ]
    assert len({*same}) == 1
    assert len({*same, *others}) == 1 + len(others)


def test_several_processes_encode_once(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)
    opened = []
    enter = ExampleWriter.__enter__
    monkeypatch.setattr(
        ExampleWriter,
        "__enter__",
        lambda self: opened.append(1) or enter(self),  # type: ignore
    )
    threads = [threading.Thread(target=run, args=(tmp_path, reading, data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 2  # to train on, and to validate with


def test_an_interrupted_encoding_leaves_nothing(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)
    added = []
    add = ExampleWriter.add

    def failing(self: ExampleWriter, example: Example) -> None:
        added.append(1)
        if len(added) == 100:
            raise KeyboardInterrupt
        add(self, example)

    monkeypatch.setattr(ExampleWriter, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, reading, data)
    assert [p.name for p in (tmp_path / "examples").iterdir()] == [".lock"]
    assert len(run(tmp_path, reading, data).train) == 300


def test_a_full_disk_is_said(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)

    def full(self: ExampleWriter, example: Example) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(ExampleWriter, "add", full)
    with pytest.raises(StoreError, match=r"^writing .* failed: No space left"):
        run(tmp_path, reading, data)
    assert [p.name for p in (tmp_path / "examples").iterdir()] == [".lock"]


def test_how_far_it_has_come_is_told_in_bytes(tmp_path: Path, reading: Reading) -> None:
    data, told = write(tmp_path / "f.jsonl", TEXTS[:3]), list[tuple[str, int, int]]()
    selection = DataSelection([str(data)], deduplicate=True)
    folder = tmp_path / "examples"
    prepare(selection, CausalLM(), reading, folder, told=lambda *each: told.append(each))
    size = data.stat().st_size
    ends = [size * n // 3 for n in (1, 2, 3)]
    # Rows of one length; all of them are read before the first block of them is encoded.
    wanted = [("looking for copies", end, size) for end in ends] + [("encoding", size, size)] * 3
    assert told == wanted


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, reading: Reading) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)

    def told(_doing: str, done: int, total: int) -> None:
        if done == total:
            with data.open("a") as file:
                file.write('{"text": "late"}\n')

    with pytest.raises(
        InputError, match=r"f\.jsonl changed while it was read", check=about("data")
    ):
        prepare(DataSelection([str(data)]), CausalLM(), reading, tmp_path / "examples", told=told)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: write(b, ["other"]), r"b\.jsonl changed since the run began"),
        (lambda a, b: write(b.with_name("c.jsonl"), ["other"]), r"c\.jsonl was not among"),
        (lambda a, b: b.unlink(), r"b\.jsonl was among the data when the run began, and is not"),
    ],
)
def test_a_file_that_changed_since_the_run_began_is_named(
    tmp_path: Path, reading: Reading, change: object, said: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    a, b = write(folder / "a.jsonl", TEXTS[:9]), write(folder / "b.jsonl", TEXTS[9:])
    before = run(tmp_path, reading, folder).report.files
    change(a, b)  # type: ignore[operator]
    selection = DataSelection([str(folder)])
    with pytest.raises(InputError, match=said, check=about("data")):
        prepare(selection, CausalLM(), reading, tmp_path / "examples", before=before)


def test_bad_rows_are_counted_by_reason_and_never_stop_a_run(
    tmp_path: Path, reading: Reading
) -> None:
    data = tmp_path / "f.jsonl"
    bad = [f'{{"text": {n}}}' for n in range(30)] + ['{"txt": "x"}', "{", "[]"]
    data.write_text("\n".join(['{"text": "good"}', *bad]))
    report = run(tmp_path, reading, data).report
    assert (report.rows, report.bad_rows, report.examples) == (34, 33, 1)
    assert report.reasons.most_common(1) == [("text is …, not text", 30)]
    assert len(report.bad) == 20
    assert report.bad[0].place == f"{data}:2"
    assert DataReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    with pytest.raises(InputError, match=r"f\.jsonl:2: text is 0, not text", check=about("data")):
        run(tmp_path, reading, data, strict=True)


def test_rows_that_are_all_unusable_end_at_once(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "_HOPELESS", 50)
    data = tmp_path / "f.jsonl"
    data.write_text('{"txt": "x"}\n' * 1000)
    with pytest.raises(InputError, match="none of the 50 rows", check=about("data")) as error:
        run(tmp_path, reading, data)
    assert "has no text" in str(error.value)
    data.write_text("\n")
    with pytest.raises(InputError, match=r"there is no row in .*f.jsonl \(", check=about("data")):
        run(tmp_path, reading, data)


def test_a_file_to_validate_with_is_never_trained_on(tmp_path: Path, reading: Reading) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a.jsonl", TEXTS[:50])
    held = write(folder / "b.jsonl", TEXTS[50:60])
    found = run(tmp_path, reading, folder, validation=[str(held)])
    assert (len(found.train), len(found.validation)) == (50, 10)
    assert texts_of(found.validation, reading.tokenizer) == TEXTS[50:60]


TEXT_LISTS = st.lists(st.text("ab ", max_size=6), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(TEXT_LISTS, TEXT_LISTS)
def test_the_split_goes_by_what_a_document_says_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], more: list[str]
) -> None:
    def places(values: list[str], seed: int = 0) -> dict[str, float]:
        finder = CopyFinder(tmp_path_factory.mktemp("copies"), threshold=1.0)
        for value in values:
            finder.add(value)
        copies = finder.copies()
        split = Split(copies, copies.hashes, len(values), 0.5, seed, deduplicate=False)
        return {value: split.place(row) for row, value in enumerate(values)}

    plain = places(texts)
    assert all(0 <= place < 1 for place in plain.values())
    assert places(texts[::-1]) == plain
    assert plain.items() <= places([*more, *texts]).items()
    assert len(plain) < 4 or places(texts, seed=1) != plain


def test_another_seed_holds_out_others_and_bad_rows_are_on_no_side(
    tmp_path: Path, reading: Reading
) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS[:60])
    with data.open("a") as file:
        file.write("{\n" * 2)
    made = [run(tmp_path, reading, data, validation=0.5, seed=seed) for seed in (0, 1)]
    held = [set(texts_of(found.validation, reading.tokenizer)) for found in made]
    assert held[0] - held[1]
    assert held[1] - held[0]
    for found in made:
        assert len(found.train) + len(found.validation) == 60
        assert (found.report.exact_copies, found.report.bad_rows) == (0, 2)


def test_the_share_is_the_share_of_documents(tmp_path: Path) -> None:
    finder = CopyFinder(tmp_path)
    for number in range(5000):
        finder.add(str(number))
    copies, report = finder.copies(), DataReport()
    split = Split(copies, copies.hashes, 5000, 0.2, 0, deduplicate=False)
    sides = [split.side(row, report) for row in range(5000)]
    assert abs(sides.count("validation") / 5000 - 0.2) < 0.02


@dataclass(frozen=True)
class Failing(CausalLM):
    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        raise ZeroDivisionError


def test_all_answers_to_a_prompt_are_on_one_side(tmp_path: Path, reading: Reading) -> None:
    """Or a reward model would be validated with prompts that it has learned."""
    path, prompts = tmp_path / "pairs.jsonl", [f"prompt {n % 40}" for n in range(240)]
    with path.open("w") as file:
        for n, prompt in enumerate(prompts):
            said = [
                {"prompt": prompt, "chosen": f"{n} is good", "rejected": f"{n} is bad"},
                {"prompt": prompt, "completion": f"{n} is fair", "rating": n},
                {"prompt": prompt, "completions": [f"{n} is so"], "ratings": [n]},
                {
                    "chosen": [{"role": "user", "content": prompt}, _turn(f"{n} yes")],
                    "rejected": [{"role": "user", "content": prompt}, _turn(f"{n} no")],
                },
            ]
            file.write(json.dumps(said[n % 4]) + "\n")
    selection = DataSelection([str(path)], validation=0.4)
    found = prepare(selection, _Prompts(), reading, tmp_path / "examples")
    sides = [set(texts_of(side, reading.tokenizer)) for side in (found.train, found.validation)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 40
    assert len(found.validation) >= 40


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@dataclass(frozen=True)
class _Prompts(CausalLM):
    """An example is the prompt of a row."""

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        turns = row.values.get("chosen")
        prompt = row.values.get("prompt") or (turns and turns[0]["content"])
        return super().encode(Row({"text": prompt}, row.place), reading)


def test_a_fault_of_ours_is_no_bad_row(tmp_path: Path, reading: Reading) -> None:
    data = write(tmp_path / "f.jsonl", TEXTS)
    with pytest.raises(ZeroDivisionError):
        prepare(DataSelection([str(data)]), Failing(), reading, tmp_path / "examples")


def test_a_document_is_all_that_a_row_says() -> None:
    turns = [{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]
    assert document_of(Row({"id": 7, "messages": turns, "label": "x"}, "")) == "a\nb"
    assert document_of(Row({"query": "q", "positive": "p", "negatives": ["n"]}, "")) == "q\np\nn"
    assert document_of(Row({"n": 1}, "")) == '{"n": 1}'
