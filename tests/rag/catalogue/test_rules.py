"""What is left out is left out whichever way the index came to be, and comes back when asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag import Index, SourceRules
from lmstack.rag.documents import Problem
from lmstack.rag.ingest.scan import FoundFile, scan_source


@pytest.fixture
def tree(tmp_path) -> Path:
    folder = tmp_path / "docs"
    for name in ("a.md", "b.txt", "drafts/a.md", "drafts/deep/c.md", "old/a.md", "notes/old/d.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"Words of {name}.")
    return folder


@pytest.fixture
def index(tmp_path, embedder):
    with Index.open(tmp_path / "index", embedder) as opened:
        yield opened


def _found(folder: Path, rules: SourceRules | None = None, inner: str = ".") -> list[str]:
    return [f.path for f in scan_source(folder, rules, inner) if isinstance(f, FoundFile)]


def _indexed(index: Index, folder: Path) -> list[str]:
    return [str(Path(info.path).resolve().relative_to(folder)) for info in index.documents()]


def test_ignore_file_holds_for_what_is_below_it(tree):
    (tree / "drafts/.lmstackignore").write_text("deep/\n")
    (tree / ".lmstackignore").write_text("/old\n*.txt\n")
    assert _found(tree) == ["a.md", "drafts/a.md", "notes/old/d.md"]


def test_deeper_pattern_wins_and_can_bring_back(tree):
    (tree / ".lmstackignore").write_text("a.md\n")
    (tree / "old/.lmstackignore").write_text("!a.md\n")
    assert _found(tree) == ["b.txt", "drafts/deep/c.md", "notes/old/d.md", "old/a.md"]


def test_gitignore_holds_only_when_asked(tree):
    (tree / ".gitignore").write_text("drafts\n")
    assert len(_found(tree)) == 6
    assert "drafts/a.md" not in _found(tree, SourceRules(gitignore=True))


def test_lmstackignore_wins_over_gitignore_beside_it(tree):
    (tree / ".gitignore").write_text("*.txt\n")
    (tree / ".lmstackignore").write_text("!b.txt\n")
    assert "b.txt" in _found(tree, SourceRules(gitignore=True))


def test_files_of_a_folder_whose_content_is_left_out_can_be_brought_back(tree):
    (tree / ".lmstackignore").write_text("drafts/**\n!drafts/a.md\n/*\n!/drafts\n")
    assert _found(tree) == ["drafts/a.md"]


def test_include_names_files_and_exclude_wins(tree):
    assert _found(tree, SourceRules(include=("*.txt", "/old/**"))) == ["b.txt", "old/a.md"]
    rules = SourceRules(include=("*.md",), exclude=("drafts/",))
    assert _found(tree, rules) == ["a.md", "notes/old/d.md", "old/a.md"]


def test_no_file_brings_back_what_the_rules_exclude(tree):
    (tree / ".lmstackignore").write_text("!old/\n!*.md\n")
    assert "old/a.md" not in _found(tree, SourceRules(exclude=("/old",)))


@pytest.mark.parametrize("inner", ["drafts", "drafts/deep", "drafts/deep/c.md"])
def test_part_of_a_source_follows_the_patterns_above_it(tree, inner):
    assert _found(tree, inner=inner)
    (tree / ".lmstackignore").write_text("deep/\n")
    (tree / "drafts/.lmstackignore").write_text("a.md\n")
    assert _found(tree, inner=inner) == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 1_000_001])
def test_folder_whose_patterns_cannot_be_read_is_not_looked_into(tree, index, content):
    index.update([tree])
    (tree / "drafts/.lmstackignore").write_bytes(content)
    (tree / "drafts/new.md").write_text("New words.")
    result = index.update()
    assert [problem.kind for problem in result.problems] == ["closed"]
    assert (result.added, result.removed) == (0, 0)


def test_patterns_at_the_top_that_cannot_be_read_close_the_source(tree):
    (tree / ".lmstackignore").write_bytes(b"\xff")
    (found,) = scan_source(tree)
    assert isinstance(found, Problem)
    assert (found.path, found.kind) == (".", "closed")


def test_changed_patterns_take_documents_out_and_bring_them_back(tree, index, tmp_path):
    index.update([tree])
    (tree / ".lmstackignore").write_text("drafts/\n")
    assert index.update().removed == 2
    assert not index.search("deep", mode="lexical")
    (tree / ".lmstackignore").unlink()
    assert index.update().added == 2


def test_rules_are_kept_with_their_source(tree, index, tmp_path, embedder):
    index.add([tree], rules=SourceRules(exclude=("*.txt",)))
    index.close()
    with Index.open(tmp_path / "index", embedder) as again:
        assert again.update().plan.up_to_date
        assert "b.txt" not in _indexed(again, tree)
        assert again.status().rules == (f"{again.status().sources[0]}: not *.txt",)
        assert again.add([tree], rules=SourceRules()).added == 1
        assert again.status().rules == ()


def test_adding_without_rules_leaves_them_as_they_are(tree, index):
    index.add([tree], rules=SourceRules(include=("*.txt",)))
    assert index.add([tree]).plan.up_to_date


def test_removed_source_takes_its_rules_along(tree, index):
    index.add([tree], rules=SourceRules(include=("*.txt",)))
    index.remove([tree])
    assert index.add([tree]).added == 6


def test_rules_of_a_part_of_a_source_are_refused(tree, index):
    index.update([tree])
    with pytest.raises(InputError, match="whole source"):
        index.add([tree / "drafts"], rules=SourceRules(exclude=("*.md",)))


def test_source_with_rules_is_not_swallowed_by_one_around_it(tree, index):
    index.add([tree / "drafts"], rules=SourceRules(exclude=("deep/",)))
    with pytest.raises(InputError, match="rules of its own"):
        index.add([tree])


def test_pattern_that_cannot_be_read_is_refused_with_an_example():
    with pytest.raises(InputError, match="pattern"):
        SourceRules(exclude=("!",))


_PATTERN = st.builds(
    lambda negated, rooted, parts, folder: negated + rooted + "/".join(parts) + folder,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(st.sampled_from(["a", "b", "*", "**", "*.md", "[cd]*"]), min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
    # pathspec takes `a/**/` for `a/`, which git does not.
).filter(lambda pattern: not pattern.endswith("**/"))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(top=st.lists(_PATTERN, max_size=4), inner=st.lists(_PATTERN, max_size=3))
def test_files_left_out_are_those_that_git_leaves_out(tmp_path_factory, top, inner):
    folder = tmp_path_factory.mktemp("tree")
    for names in (("a",), ("b",), ("a", "b"), ("b", "a"), ("a", "b", "a")):
        path = folder.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        for name in ("c.md", "d.txt"):
            (path / name).write_text("words")
    (folder / ".gitignore").write_text("\n".join(top))
    (folder / "a/.gitignore").write_text("\n".join(inner))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    want = sorted(name for name in listed if not name.endswith(".gitignore"))
    assert sorted(_found(folder, SourceRules(gitignore=True))) == want, (top, inner)
