"""What an error says to do can be done: what its hint names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from lmstack.app.cli.program import build
from lmstack.serve.http import requests, tasks

# Names of other programs and libraries that hints tell people to use.
FOREIGN_OPTIONS = {"--no-deps", "--upgrade"}
FOREIGN_VARIABLES = {"LC_ALL", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HF_ENDPOINT"}
FOREIGN_VARIABLES |= {"HF_HUB_OFFLINE", "WANDB_MODE"}
FOREIGN_NAMES = {
    *("from_pretrained", "save_pretrained", "path_initial_model_for_weight_conversion"),
    *("chat_template", "decoder_start_token_id", "mask_token", "unk_token"),
    *("generation_config", "tokenizer_config", "token_urlsafe"),
    *("apparmor_restrict_unprivileged_userns", "unprivileged_userns_clone"),  # of the kernel
}
# Values of fields, which read like names.
VALUES = {"json_schema", "json_object"}
# Errors of these reach whoever calls the API, who can set the fields of a request alone. What a
# configuration says about itself on construction is read by whoever wrote it.
FOR_CALLERS = ("lmstack.serve", "lmstack.safety", "lmstack.engine")


@dataclass(frozen=True)
class Hint:
    """``text``: all that is written down of it, a space where something is filled in."""

    place: str
    module: str
    text: str
    on_construction: bool

    @property
    def for_callers(self) -> bool:
        return self.module.startswith(FOR_CALLERS) and not self.on_construction


def _text(node: ast.AST, constants: Mapping[str, ast.AST]) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, constants) or " " for part in node.values)
    if isinstance(node, ast.Name) and node.id in constants:
        return _text(constants[node.id], {})
    if isinstance(node, ast.BinOp | ast.IfExp | ast.BoolOp | ast.Dict):
        return " ".join(_text(child, constants) for child in ast.iter_child_nodes(node))
    return ""


def hints_of(source: Any) -> Iterator[Hint]:
    """Every ``hint=`` in a module, and its constants whose names say that they are hints."""
    constants = {
        target.id: node.value
        for node in source.tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    constructors = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in source.nodes
        if isinstance(node, ast.FunctionDef) and node.name in ("__post_init__", "__init__")
    ]

    def hint(node: ast.AST, line: int) -> Hint:
        built = any(line in lines for lines in constructors)
        return Hint(f"{source.shown}:{line}", source.name, _text(node, constants), built)

    for node in source.nodes:
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield hint(node.value, node.value.lineno)
    for name, value in constants.items():
        if "HINT" in name:
            yield hint(value, value.lineno)


@pytest.fixture(scope="module")
def hints(sources: Mapping[str, Any]) -> list[Hint]:
    return [hint for source in sources.values() for hint in hints_of(source)]


@pytest.fixture(scope="module")
def root() -> Any:
    return get_command(build())


def _options(command: Any) -> set[str]:
    own = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return own | {"--help", "--verbose", "--quiet", "--json"}


@cache
def _all_options(command: Any) -> set[str]:
    children = getattr(command, "commands", {}).values()
    return _options(command).union(*(_all_options(child) for child in children))


def _fields() -> set[str]:
    """Every field of every body that the API takes."""
    bodies = [
        each
        for module in (requests, tasks)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseModel)
    ]
    return {field.alias or name for body in bodies for name, field in body.model_fields.items()}


def _defined(sources: Mapping[str, Any]) -> set[str]:
    """Functions, their parameters and the fields of classes."""
    found = set()
    for source in sources.values():
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def _names(text: str) -> set[str]:
    return set(re.findall(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b", text)) - FOREIGN_NAMES - VALUES


def wrong_options(hint: Hint, root: Any) -> set[str]:
    """Options that no command has, or that the command in front of them does not have."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", hint.text)) - FOREIGN_OPTIONS
    command = _command(hint.text, root)
    return named - (_all_options(root) if command is None else _options(command))


def _command(text: str, root: Any) -> Any:
    """What ``lmstack index add ...`` in a hint names; None where there is no command in it."""
    found = re.search(r"(?:^|[:,;] |\bor )lmstack (?!needs )([a-z][a-z ]*)", text)
    if found is None:
        return None
    command, named = root, found[1].split()
    while named and named[0] in getattr(command, "commands", {}):
        command = command.commands[named.pop(0)]
    assert command is not root, f"no command: lmstack {found[1]}"
    return command


# Words in front of a path that somebody copies into a shell.
BEFORE_PATHS = re.compile(r"(--(index|docs|out|file|output)|mkdir -p|chmod -R \S+|fuser|verify) $")


def unquoted_paths(source: Any) -> Iterator[str]:
    """Values filled in where a hint's command takes a path, without ``shlex.quote``."""
    keywords = (node for node in source.nodes if isinstance(node, ast.keyword))
    hints = [node.value for node in keywords if node.arg == "hint"]
    texts = [n for hint in hints for n in ast.walk(hint) if isinstance(n, ast.JoinedStr)]
    for before, value in (pair for text in texts for pair in pairwise(text.values)):
        takes_path = isinstance(before, ast.Constant) and BEFORE_PATHS.search(str(before.value))
        if takes_path and "quote" not in ast.unparse(value):
            yield f"{source.shown}:{before.lineno}: {ast.unparse(value)}"


def test_hints_are_found(hints: list[Hint]) -> None:
    assert len(hints) > 300
    assert any(hint.for_callers for hint in hints)


def test_every_option_in_a_hint_is_one_of_its_command(hints: list[Hint], root: Any) -> None:
    assert [(h.place, w) for h in hints if (w := wrong_options(h, root))] == []


def test_every_variable_in_a_hint_is_read(hints: list[Hint], sources: Mapping[str, Any]) -> None:
    read = {
        node.value
        for source in sources.values()
        for node in source.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    known = read | FOREIGN_VARIABLES
    unread = [
        (hint.place, name)
        for hint in hints
        for name in re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", hint.text)
        if name not in known
    ]
    assert unread == []


def test_every_name_in_a_hint_is_one_of_the_code(
    hints: list[Hint], sources: Mapping[str, Any]
) -> None:
    known = _defined(sources) | _fields()
    assert [(h.place, w) for h in hints if (w := _names(h.text) - known)] == []


def test_a_hint_for_callers_of_the_api_names_what_a_request_has(hints: list[Hint]) -> None:
    fields = _fields()
    assert [(h.place, w) for h in hints if h.for_callers and (w := _names(h.text) - fields)] == []


def test_paths_in_commands_are_quoted(sources: Mapping[str, Any]) -> None:
    assert [found for source in sources.values() for found in unquoted_paths(source)] == []


def test_a_path_that_is_not_quoted_is_found(sample: Any) -> None:
    assert list(unquoted_paths(sample("f(hint=f'mkdir -p {shlex.quote(x)}')"))) == []
    assert len(list(unquoted_paths(sample("f(hint='do: ' + f'mkdir -p {x.parent} now')")))) == 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("hint='lmstack ask --docs DIR'", set()),
        ("hint='lmstack rm --docs DIR'", {"--docs"}),
        ("hint=f'try --no-such {x}'", {"--no-such"}),
        ("hint='a' if x else '--nor-this'", {"--nor-this"}),
        ("hint=f'lmstack index add --index {x} --nothing'", {"--nothing"}),
    ],
)
def test_an_option_that_is_not_there_is_found(
    sample: Any, root: Any, text: str, wrong: set[str]
) -> None:
    hints = list(hints_of(sample(f"f({text.replace('lmstack rm', 'lmstack model rm')})")))
    assert [wrong_options(hint, root) for hint in hints] == [wrong]


def test_a_command_that_is_not_there_is_found(sample: Any, root: Any) -> None:
    [hint] = hints_of(sample("f(hint='lmstack conjure it')"))
    with pytest.raises(AssertionError, match="no command"):
        wrong_options(hint, root)
