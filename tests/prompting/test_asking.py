"""A prompt file asked of a model, and the audit record that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.app.conftest import HashEmbedder
from tests.prompting.models import Unheld
from tests.prompting.test_votes import Several

from lmstack.core import ScriptedModel, UnsupportedError
from lmstack.prompting import PromptAsker, PromptFile, StructuredError, load_prompt
from lmstack.safety import AuditLog, GuardedModel, verify

Write = Callable[[str], PromptFile]


@pytest.fixture
def prompt(tmp_path: Path) -> Write:
    """The prompt ``mood`` with more settings."""

    def written(settings: str) -> PromptFile:
        path = tmp_path / "mood.md"
        path.write_text(f"---\nvariables: {{review: }}\n{settings}\n---\nMood of {{{{review}}}}?")
        return load_prompt(path)

    return written


async def test_a_plain_prompt_answers_with_text(prompt: Write) -> None:
    model = ScriptedModel(["It is good."])
    answer = await PromptAsker(model, prompt("sampling: {max_tokens: 9}")).ask({"review": "x"})
    assert (answer.answer, answer.text) == ("It is good.", "It is good.")
    assert model.requests[0].sampling.max_tokens == 9


async def test_a_form_gives_its_value(prompt: Write) -> None:
    asker = PromptAsker(Unheld(["Good!"]), prompt("choices: [good, bad]"))
    assert (await asker.ask({"review": "x"})).answer == "good"
    schema = "schema: {type: object, properties: {n: {type: integer}}, required: [n]}"
    asker = PromptAsker(ScriptedModel(['{"n": 3}']), prompt(schema))
    assert (await asker.ask({"review": "x"})).answer == {"n": 3}
    asker = PromptAsker(Unheld(["so so"]), prompt("choices: [good, bad]"), attempts=1)
    with pytest.raises(StructuredError):
        await asker.ask({"review": "x"})


async def test_a_chain_of_thought_gives_its_answer(prompt: Write) -> None:
    file = prompt("thinking: {marker: 'Verdict:'}\nchoices: [good, bad]")
    model = ScriptedModel(["They like it.\nVerdict: Good."])
    answer = await PromptAsker(model, file).ask({"review": "x"})
    assert (answer.answer, answer.text) == ("good", "They like it.\nVerdict: Good.")
    assert 'begins with "Verdict:"' in model.requests[0].messages[0].content


async def test_samples_are_voted_over(prompt: Write) -> None:
    said = ["Answer: good", "Answer: good.", "Answer: so so", "nothing", "Answer: bad"]
    for settings, unparsed, leader in (
        ("thinking: true\nsamples: 5", 1, "good"),
        ("thinking: true\nsamples: 5\nchoices: [good, bad]", 2, "good"),
        ("samples: 5", 0, "Answer: good"),
    ):
        answer = await PromptAsker(Several(said), prompt(settings)).ask({"review": "x"})
        assert answer.votes is not None
        assert (answer.answer, answer.votes.unparsed) == (leader, unparsed), settings
    cut = Several(["Why:\nAnswer: good", "x\nAnswer: bad"], cut=(0, 1))
    answer = await PromptAsker(cut, prompt("thinking: true\nsamples: 2")).ask({"review": "x"})
    assert answer.votes is not None
    assert (answer.answer, answer.votes.unparsed) == (None, 2)
    model = Several(["Good.", "bad", "good"])
    answer = await PromptAsker(model, prompt("samples: 3\nchoices: [good, bad]")).ask(
        {"review": "x"}
    )
    assert answer.answer == "good"
    assert model.requests[0].grammar is not None
    unheld = Unheld(["Good.", "so so"])
    answer = await PromptAsker(unheld, prompt("samples: 2\nchoices: [good, bad]")).ask(
        {"review": "x"}
    )
    assert (answer.answer, unheld.refused) == ("good", 1)
    assert '"good", "bad"' in unheld.requests[0].messages[-1].content
    cut = Several(["good", "goo", "goo"], cut=(1, 2))
    answer = await PromptAsker(cut, prompt("samples: 3")).ask({"review": "x"})
    assert answer.votes is not None
    assert (answer.answer, answer.votes.unparsed) == ("good", 2)
    tied = await PromptAsker(Several(["a", "b"]), prompt("samples: 2")).ask({"review": "x"})
    assert tied.answer is None
    assert tied.votes is not None
    assert tied.votes.is_tied


async def test_what_else_a_model_cannot_do_is_not_taken_for_no_grammars(prompt: Write) -> None:
    for settings, param in (("choices: [good, bad]", "top_k"), ("{}", "response_format")):
        error = UnsupportedError("not here", param=param)
        model = ScriptedModel([error, "good"])
        with pytest.raises(UnsupportedError) as caught:
            await PromptAsker(model, prompt(f"samples: 2\n{settings}".replace("\n{}", ""))).ask(
                {"review": "x"}
            )
        assert caught.value is error
        assert len(model.requests) == 1


async def test_nearest_examples_are_chosen_for_each_question(prompt: Write) -> None:
    file = prompt(
        "choose: nearest\nshots: 1\nexamples:\n"
        "  - {review: the soup was cold, output: bad}\n  - {review: a lovely evening, output: good}"
    )
    model = ScriptedModel(["x"])
    asker = PromptAsker(model, file, embedder=HashEmbedder())
    for review, shown in (("cold soup", "bad"), ("lovely people", "good")):
        await asker.ask({"review": review})
        assert model.requests[-1].messages[1].content == shown


async def test_the_audit_record_names_the_prompt_and_its_version(
    prompt: Write, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    file = prompt("choices: [good, bad]")
    guarded = GuardedModel(ScriptedModel(["good"]), audit=AuditLog(path, fsync=False))
    await PromptAsker(guarded, file).ask({"review": "x"}, client="me")
    records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()][1:]
    assert [record["event"] for record in records] == ["accepted", "finished"]
    assert [record["prompt"] for record in records] == [{"name": "mood", "digest": file.digest}] * 2
    assert verify(path).ok
