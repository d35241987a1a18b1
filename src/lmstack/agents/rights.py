"""What a run may do: set before it begins, and never widened by anything that is said in it.

Covers which tools may run, which of them need a person, and the roots and hosts that tools are
handed. Does not cover whether a tool keeps to the roots and hosts: that is the tool's to enforce.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

from lmstack.core import Config, InputError, check_text, nearest, shown

__all__ = ["Rights"]


@dataclass(frozen=True)
class Rights(Config):
    """``tools``: names of those that may run, here and in every agent below; None: all that the
    agent was given. ``roots``, ``hosts``: opaque strings for the tools that read files and ask
    hosts; None: what each tool was made with.

    ``dangerous``: tools that need a person for each call, besides those that say so themselves.
    ``approved``: dangerous tools that need none. That ends for a call whose arguments hold text
    that others wrote, and with ``ask_after_untrusted`` for the rest of the run once it has read
    any such text."""

    tools: frozenset[str] | None = None
    roots: frozenset[str] | None = None
    hosts: frozenset[str] | None = None
    dangerous: frozenset[str] = frozenset()
    approved: frozenset[str] = frozenset()
    ask_after_untrusted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in fields(self)[:5]:
            names = getattr(self, each.name)
            if names is not None:
                object.__setattr__(self, each.name, _names(each.name, names))
        if not isinstance(self.ask_after_untrusted, bool):
            raise InputError(
                f"ask_after_untrusted is {shown(self.ask_after_untrusted)}, not true or false",
                param="ask_after_untrusted",
            )

    def within(self, outer: Rights) -> Rights:
        """What both allow; a person is asked where either wants one."""
        return Rights(
            tools=_both(self.tools, outer.tools),
            roots=_both(self.roots, outer.roots),
            hosts=_both(self.hosts, outer.hosts),
            dangerous=self.dangerous | outer.dangerous,
            approved=self.approved & outer.approved,
            ask_after_untrusted=self.ask_after_untrusted or outer.ask_after_untrusted,
        )

    def allows(self, tool: str) -> bool:
        return self.tools is None or tool in self.tools

    def check(self, known: Collection[str]) -> None:
        """`InputError` for a name that is none of the tools ``known``: a typing error in
        ``dangerous`` would let a tool run without a person."""
        named = (self.tools or frozenset()) | self.dangerous | self.approved
        for name in sorted(named - set(known)):
            guess = nearest(name, known)
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"the rights name the tool {shown(name)}, which the agent does not have",
                hint=f"did you mean {guess!r}?" if guess else f"its tools: {listed}",
                param="rights",
            )


def _names(field: str, names: Iterable[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise InputError(
            f"{field} is {shown(names)}, not a collection of names",
            hint=f"write a single one as a collection too: {{{names!r}}}",
            param=field,
        )
    found = frozenset(names)
    for name in found:
        check_text(field, name)
    return found


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other
