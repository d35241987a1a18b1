"""Which verdict lets which release be an alias."""

from __future__ import annotations

import dataclasses

import pytest
from tests.registry.releases import digest, documented, release, verdict

from lmstack.core import FormatError, IntegrityError
from lmstack.registry.releases import Release
from lmstack.registry.verdicts import GateVerdict


def test_a_verdict_and_a_release_come_back_from_json() -> None:
    first = verdict("a", "b", untested=("numbers acc",), measured=({"value": 0.5},))
    assert GateVerdict.from_json(first.to_json()) == first
    assert Release.from_json(release().to_json()) == release()


def test_a_release_with_documents_has_version_2_and_comes_back_from_json() -> None:
    first = verdict("a", release=documented())
    assert (first.to_json()["format"], verdict("a").to_json()["format"]) == (
        "lmstack.verdict/2",
        "lmstack.verdict/1",
    )
    assert GateVerdict.from_json(first.to_json()) == first
    assert "docs" not in release().to_json()
    for value in (first, verdict("a")):
        other = {"lmstack.verdict/1": "lmstack.verdict/2", "lmstack.verdict/2": "lmstack.verdict/1"}
        with pytest.raises(FormatError, match=r"in the format 'lmstack\.verdict"):
            GateVerdict.from_json(value.to_json() | {"format": other[value.to_json()["format"]]})


def test_the_digest_of_a_release_covers_its_documents() -> None:
    one = documented()
    assert one.digest == f"{digest('a')}+docs.{'c' * 64}+answers.{'d' * 64}"
    assert (one.model_digest, one.index_content) == (release().digest, "c" * 64)
    assert one.title == "model-a, int8, documents docs"
    other = release(digest=f"{digest('a')}+int8.7+prompt.{'b' * 64}")
    assert other.model_digest == other.digest
    assert other.with_documents("/srv/docs", "c" * 64, "d" * 64).model_digest == other.digest
    with pytest.raises(IntegrityError, match="not of sha256:a"):
        verdict("a", release=one).check_passes("prod", documented(index="e"))
    with pytest.raises(IntegrityError, match="not of sha256:a"):
        verdict("a", release=one).check_passes("prod", release())


@pytest.mark.parametrize(
    "wrong",
    [
        {"docs": "/srv/docs"},  # and a digest that says nothing of them
        {"digest": documented().digest},
        {"docs": "/srv/docs", "digest": f"{digest('a')}+docs.{'c' * 64}"},
        {"docs": "/srv/docs", "digest": f"{digest('a')}+docs...+answers.{'d' * 64}"},
        {"digest": f"{digest('a')}+docs.x"},
    ],
)
def test_documents_that_the_digest_does_not_cover_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(FormatError, match="a release has the documents"):
        release(**wrong)


def test_a_passing_verdict_of_the_release_passes() -> None:
    verdict("a").check_passes("prod", release("a"))


@pytest.mark.parametrize("decision", ["HOLD", "REJECT"])
def test_what_did_not_pass_is_refused_with_its_name(decision: str) -> None:
    with pytest.raises(IntegrityError, match=f"is {decision}"):
        verdict("a", decision=decision).check_passes("prod", release("a"))


@pytest.mark.parametrize(
    ("alias", "other", "reason"),
    [
        ("staging", release("a"), "for the alias prod, not for staging"),
        ("prod", release("b"), "not of sha256:bbbb"),
        ("prod", release("a", weights="q4"), "model-a, q4"),
        ("prod", release("a", model="model-c"), "not of model-c"),
        ("prod", release("a", adapter="/somewhere"), "adapter somewhere"),
    ],
)
def test_a_verdict_of_something_else_is_refused(alias: str, other: Release, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        verdict("a").check_passes(alias, other)


def test_rules_that_are_not_those_of_the_hash_are_refused() -> None:
    value = verdict().to_json()
    value["rules"] = {**value["rules"], "alpha": 0.4}
    with pytest.raises(IntegrityError, match="the rules of a verdict"):
        GateVerdict.from_json(value)


def test_fields_too_many_too_few_and_of_another_format_are_refused() -> None:
    value = verdict().to_json()
    lacking = {name: value[name] for name in value if name != "decision"}
    for wrong in ({**value, "more": 1}, lacking, {**value, "format": "x"}, [], None):
        with pytest.raises(FormatError):
            GateVerdict.from_json(wrong)
    with pytest.raises(FormatError, match="MAYBE"):
        GateVerdict.from_json({**value, "decision": "MAYBE"})


@pytest.mark.parametrize("field", ["model", "weights"])
def test_a_release_names_its_model_and_the_form_of_its_weights(field: str) -> None:
    with pytest.raises(FormatError, match="names a model and the form"):
        release(**{field: ""})


@pytest.mark.parametrize("wrong", ["name:openai", "", "sha256:12", digest("a") + "+", digest("A")])
def test_a_release_is_named_by_its_content(wrong: str) -> None:
    with pytest.raises(FormatError):
        release(digest=wrong)


@pytest.mark.parametrize(
    ("given", "is_named"),
    [
        ("aaaa", True),
        ("sha256:aaaa", True),
        ("sha256:aaaa+int8.7", True),
        ("aaaa+int8", True),
        ("aaaa+q4", False),
        ("bbbb", False),
        ("a" * 64, False),  # the whole digest of another form
        ("a" * 64 + "+int8.7", True),
        ("aaaa+int8.7+sha256:cc", False),
    ],
)
def test_a_release_is_named_by_the_beginning_of_its_digest(given: str, is_named: bool) -> None:
    assert release("a", digest=f"{digest('a')}+int8.7").is_named(given) is is_named


def test_the_digest_says_the_files_and_people_see_its_beginning() -> None:
    adapter = digest("c")
    one = release("a", digest=f"{digest('a')}+int8.7+{adapter}", adapter="/x/tone")
    assert one.content == digest("a")
    assert one.short == f"sha256:{'a' * 12}+int8.7+sha256:{'c' * 12}"
    assert one.title == "model-a, int8, adapter tone"
    assert one.parts == ("int8.7", adapter)
    assert (one.prompt_part, one.index_part, one.documents_digest) == ("", "", "")
    whole = documented()
    assert whole.documents_digest == f"docs.{'c' * 64}+answers.{'d' * 64}"
    asked = f"{digest('a')}+prompt.{'e' * 64}"
    assert release("a", digest=asked, prompt="/x/p.md").prompt_part == f"prompt.{'e' * 64}"
    assert release("a", digest=asked, prompt="/x/p.md").title == "model-a, int8, prompt p.md"
    assert dataclasses.replace(one, digest=digest("a"), adapter="").short == f"sha256:{'a' * 12}"
