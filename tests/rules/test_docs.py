"""The pages: links lead somewhere, figures name their script, the command reference is fresh.

A figure is a number with a unit of speed, size, time or share. Each section with one holds a
comment that names where it comes from: `<!-- measured: benchmarks/NAME.py -->`, or a long test,
for what was measured, `<!-- set: FILE -->` for what is a setting or a limit in that file. Code
blocks and inline code are not looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*\s*$", re.M | re.S)
INLINE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^(#{1,6}) +(.*?)\s*#*$", re.M)
SOURCE = re.compile(r"<!--\s*(measured|set):\s*(\S+?)\s*-->")
FIGURE = re.compile(
    r"(?<![\w.])\d[\d,.]*\s?"
    r"(?:%|(?:tokens?|chunks?|embeddings?|requests?|documents?|texts?)(?:/s| (?:a|per) second)"
    r"|[KMGT]i?B|kB|ms|µs|s|seconds?|minutes?|per ?cent|(?:x|times) (?:faster|slower|as))(?!\w)"
)


@pytest.fixture(scope="session")
def pages(root: Path) -> dict[str, str]:
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return {str(path.relative_to(root)): path.read_text() for path in paths}


def without_code(text: str) -> str:
    return INLINE.sub("", FENCE.sub("", text))


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    counts: dict[str, int] = {}
    found = set()
    for _, title in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        seen = counts.get(slug, 0)
        counts[slug] = seen + 1
        found.add(f"{slug}-{seen}" if seen else slug)
    return found


def broken_links(root: Path, page: str, text: str, pages: dict[str, str]) -> Iterator[str]:
    for target in LINK.findall(without_code(text)):
        link = urlsplit(target)
        if link.scheme or link.netloc:
            continue
        path = (root / page).parent / unquote(link.path) if link.path else root / page
        if not path.exists():
            yield f"{page}: {target} does not exist"
        elif link.fragment and path.suffix == ".md":
            there = pages.get(os.path.relpath(path, root)) or path.read_text()
            if link.fragment not in slugs(there):
                yield f"{page}: {target} has no such heading"


def test_every_link_in_the_pages_leads_somewhere(root: Path, pages: dict[str, str]) -> None:
    wrong = [w for page, text in pages.items() for w in broken_links(root, page, text, pages)]
    assert not wrong, "\n".join(wrong)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Each heading with what stands below it, up to the next heading."""
    text = FENCE.sub("", text)
    starts = [(m.start(), m[2]) for m in HEADING.finditer(text)]
    starts.insert(0, (0, "the beginning"))
    for (start, title), end in zip(starts, [s for s, _ in starts[1:]] + [len(text)], strict=True):
        yield title, text[start:end]


def unsourced(page: str, text: str) -> Iterator[str]:
    for title, section in sections(text):
        figures = FIGURE.findall(INLINE.sub("", section))
        if figures and not SOURCE.search(section):
            yield f"{page}, {title!r}: {', '.join(f.strip() for f in figures[:4])}"


def test_every_figure_names_the_script_that_made_it(pages: dict[str, str]) -> None:
    wrong = [w for page, text in pages.items() for w in unsourced(page, text)]
    assert not wrong, "\n".join(
        [*wrong, "add <!-- measured: benchmarks/NAME.py --> (or set: FILE)"]
    )


def test_every_script_that_a_figure_names_is_there(root: Path, pages: dict[str, str]) -> None:
    wrong = []
    for page, text in pages.items():
        for kind, path in SOURCE.findall(without_code(text)):
            in_place = path.startswith(("benchmarks/", "tests/")) or kind == "set"
            if not (in_place and (root / path).is_file()):
                wrong.append(f"{page}: {kind} {path}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decodes 120 tokens/s", 1),
        ("took 3.5 s and 40 ms", 2),
        ("| 97 % | 1,024 MB |", 2),
        ("about 12 embeddings a second", 1),
        ("3 times faster", 1),
        ("`--timeout 10 s`", 0),
        ("port 8000, 42 files, Python 3.11, section 2", 0),
        ("```\n5 s\n```", 0),
        ("all-minilm-l6-v2 and smollm2-135m", 0),
        ("## Speed\n5 s <!-- measured: benchmarks/spine.py -->", 0),
        ("## Speed <!-- measured: benchmarks/spine.py -->\n## Size\n5 MB", 1),
    ],
)
def test_the_search_for_figures_finds_figures(text: str, expected: int) -> None:
    found = list(unsourced("page", text))
    assert sum(len(f.split(": ")[1].split(", ")) for f in found) == expected


def test_the_command_reference_is_fresh(root: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "lmstack.app.cli.docs", "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


# Where this copy of the project happens to be is nobody's business.

PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "localhost", "127.0.0.1"}


def pip_settings() -> Iterator[str]:
    """Where this machine gets its packages from: hosts of private indexes, folders of wheels."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if not name.endswith(("index-url", "find-links", "trusted-host", "proxy")):
            continue
        for word in value.strip("'\" ").split():
            host = urlsplit(word).hostname or word
            if host not in PUBLIC_HOSTS:
                yield host


def test_no_tracked_file_names_this_machine(root: Path, tracked: list[Path]) -> None:
    names = {str(root), str(Path.home()), *pip_settings()} - {"/", "/root"}
    wrong = []
    for path in tracked:
        text = path.read_bytes().decode("utf-8", "replace")
        wrong += [f"{path.relative_to(root)}: {name}" for name in sorted(names) if name in text]
    assert not wrong, "\n".join(wrong)
