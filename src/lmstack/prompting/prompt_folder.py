"""A folder of prompt files, and what names a prompt in it.

``sentiment`` is the prompt of that name; ``sentiment@3f2a`` the version of it whose digest begins
so, where several files hold versions of one prompt; ``drafts/new.md`` a file. Files that cannot be
read are listed with what is wrong. Does not cover what a file holds (`prompt_file`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmstack.core import InputError, LmstackError, NotFoundError, nearest, shown
from lmstack.core.files import store_error
from lmstack.prompting.prompt_file import SUFFIXES, PromptFile, load_prompt

__all__ = ["BrokenPrompt", "PromptFolder"]


@dataclass(frozen=True)
class BrokenPrompt:
    path: Path
    error: LmstackError


class PromptFolder:
    """The prompts right inside of ``path``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def read(self) -> tuple[list[PromptFile], list[BrokenPrompt]]:
        """All prompts by name, and the files that hold none. Markdown without front matter is
        about prompts, and is no prompt."""
        try:
            paths = sorted(p for p in self.path.iterdir() if p.suffix in SUFFIXES)
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no folder {shown(str(self.path))}",
                hint="make it and put a prompt into it, or name another folder",
                param="prompts",
            ) from None
        except OSError as error:
            raise store_error(error, self.path, "reading") from error
        found: list[PromptFile] = []
        broken: list[BrokenPrompt] = []
        for path in paths:
            if path.suffix == ".md" and not _has_front_matter(path):
                continue
            try:
                found.append(load_prompt(path))
            except LmstackError as error:
                broken.append(BrokenPrompt(path, error))
        found.sort(key=lambda prompt: (prompt.name, str(prompt.path)))
        return found, broken

    def find(self, reference: str) -> PromptFile:
        """The prompt that ``reference`` means."""
        path = Path(reference)
        if path.suffix in SUFFIXES:
            inside = self.path / path
            return load_prompt(path if path.exists() or not inside.exists() else inside)
        name, _, digest = reference.partition("@")
        found, broken = self.read()
        named = [prompt for prompt in found if prompt.name == name]
        chosen = [p for p in named if p.digest.removeprefix("sha256:").startswith(digest)]
        if len({prompt.digest for prompt in chosen}) == 1:
            return chosen[0]
        if chosen:
            versions = ", ".join(f"{p.version} ({p.path.name})" for p in chosen)
            raise InputError(
                f"{shown(reference)} has several versions: {versions}",
                hint=f"name one, such as {chosen[0].version}",
                param="prompt",
            )
        for each in broken:
            if each.path.stem == name:
                raise each.error
        raise self._unknown(reference, [p.version for p in named], [p.name for p in found])

    def _unknown(self, reference: str, versions: list[str], names: list[str]) -> NotFoundError:
        guess = nearest(reference, names)
        if versions:
            hint = f"its versions: {', '.join(versions)}"
        elif guess:
            hint = f"did you mean {guess!r}?"
        else:
            hint = f"prompts there: {', '.join(names) or 'none'}"
        what = f"there is no prompt {shown(reference)} in {self.path}"
        return NotFoundError(what, hint=hint, param="prompt")


def _has_front_matter(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline().removeprefix(b"\xef\xbb\xbf").rstrip() == b"---"
    except OSError:
        return True  # reading it says what is wrong
