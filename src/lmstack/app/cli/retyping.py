"""The command line that was typed, once more: with other options, and quoted for a shell.

For hints that can be copied: how to go on after Ctrl-C, or the same command on another port. Works
on the words as they were typed, so no option is lost, whatever options a command has.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence

__all__ = ["retyped"]


def retyped(
    words: Sequence[str],
    *,
    setting: Mapping[str, str | None] | None = None,
    without: Collection[str] = (),
) -> str:
    """``words`` as a command. ``setting``: options that take the place of those typed, each with
    its value, None for one that has none. ``without``: options to leave out that have none."""
    setting = setting or {}
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    options = iter(words[:end])
    for word in options:
        name, equals, _ = word.partition("=")
        if word in without:
            continue
        if name in setting:
            if not equals and setting[name] is not None:
                next(options, None)  # its value is a word of its own
            continue
        kept.append(word)
    for name, value in setting.items():
        kept += [name] if value is None else [name, value]
    return shlex.join(["lmstack", *kept, *words[end:]])
