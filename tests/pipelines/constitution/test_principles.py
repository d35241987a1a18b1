"""Principles: those that ship, nearest names on typos, and draws that follow from the place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError, NotFoundError
from lmstack.pipelines.constitution.principles import Constitution, Principle, read_constitution

ONE = "principles:\n  - name: kind\n    critique: c?\n    revision: r!\n    preference: which?\n"


def principles(*weights: float) -> Constitution:
    made = (Principle(f"p{n}", "c?", "r!", "w?", weight) for n, weight in enumerate(weights))
    return Constitution(tuple(made))


def test_the_principles_that_ship_are_whole() -> None:
    shipped = read_constitution()
    assert len(shipped.principles) >= 5
    assert shipped.title
    for principle in shipped.principles:
        assert principle.preference.endswith("?")


@pytest.mark.parametrize(
    ("text", "message", "hint", "param"),
    [
        (
            ONE.replace("critique", "critque"),
            "principle 1 (kind): Principle has no",
            "'critique'",
            "critque",
        ),
        (ONE.replace("principles", "principals"), "principals", "'principles'", "principals"),
        (ONE.replace("    critique: c?\n", ""), "lacks the setting 'critique'", "", "critique"),
        (ONE.replace("c?", '" "'), "critique is empty", "", "critique"),
        (ONE + "    weight: 0\n", "weight is 0, outside (0", "", "weight"),
        (ONE + "    weight: heavy\n", "weight is 'heavy', not a number", "", "weight"),
        (ONE + ONE.partition("\n")[2], "'kind' stands twice", "", "principles"),
        ("principles: []\n", "there are no principles", "", "principles"),
        ("principles: kind\n", "principles is 'kind', not a list", "", "principles"),
        ("principles: [kind]\n", "principle 1: Principle is 'kind', not a mapping", "", None),
        ("title: 3\n" + ONE, "title is 3, not text", "", "title"),
        (ONE.replace("kind", "k" * 61), "longer than 60", "", "name"),
        (ONE.replace("kind", '"k\\nk"'), "characters or a line", "", "name"),
    ],
)
def test_a_mistake_names_the_file_the_principle_and_the_nearest(
    text: str, message: str, hint: str, param: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_constitution(path)
    assert str(path) in error.value.message
    assert message in error.value.message
    assert hint in (error.value.hint or "")
    assert error.value.param == param


def test_a_name_has_up_to_sixty_characters_and_all_are_text() -> None:
    texts = {"name": "k" * 60, "critique": "c", "revision": "r", "preference": "p"}
    assert Principle(**texts).name == "k" * 60
    for field in texts:
        with pytest.raises(InputError, check=about(field)):
            Principle(**{**texts, field: "\ud800"})


def test_a_file_that_is_not_there_or_not_yaml_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(FormatError, match="is not YAML"):
        read_constitution(tmp_path / "mine.yaml")
    with pytest.raises(NotFoundError, match="no file of principles"):
        read_constitution(tmp_path / "mien.yaml")


@given(st.integers(0, 2**63 - 1), st.text(max_size=8), st.integers(1, 6))
def test_a_draw_has_no_principle_twice_and_is_the_same_again(
    seed: int, key: str, count: int
) -> None:
    drawn = principles(1, 2, 3, 4).drawn(count, seed, key)
    assert len({p.name for p in drawn}) == len(drawn) == min(count, 4)
    assert principles(1, 2, 3, 4).drawn(count, seed, key) == drawn


@given(st.integers(0, 2**63 - 1), st.text(max_size=8))
def test_one_principle_more_changes_no_order_among_the_others(seed: int, key: str) -> None:
    few, more = principles(1, 2, 3), principles(1, 2, 3, 4)
    of_more = [p.name for p in more.drawn(4, seed, key) if p.name != "p3"]
    assert of_more == [p.name for p in few.drawn(3, seed, key)]


def test_a_principle_is_drawn_in_proportion_to_its_weight() -> None:
    constitution = principles(1, 2, 5)
    first = Counter(constitution.drawn(1, 0, place)[0].name for place in range(4000))
    for name, share in (("p0", 1 / 8), ("p1", 2 / 8), ("p2", 5 / 8)):
        assert first[name] / 4000 == pytest.approx(share, abs=0.03)  # four standard errors
