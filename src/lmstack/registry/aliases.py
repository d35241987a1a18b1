"""Aliases: names such as ``prod`` that stand for a release, moved by passing verdicts alone.

    $LMSTACK_HOME/aliases/NAME.json      all that ever happened to the alias, oldest first
    $LMSTACK_HOME/aliases/NAME.lock      one writer at a time

A file an alias, written anew beside itself and moved into place: a process that is killed leaves
the file of before, a server reads without a lock and without the right to write (SQLite in WAL mode
needs it even to read), and a folder that is copied to another machine is complete. Events are only
ever added. Each is signed and holds the hash of the one before, so that the last one vouches for
all: what was changed, taken out of the middle or put in is found. Events taken off the end are not;
they leave a state that was once true. Not covered: deciding (`lmstack.evals.gate`) and loading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from lmstack.core import FormatError, InputError, IntegrityError, NotFoundError, nearest, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.core.json_text import canonical_json, parse_json
from lmstack.registry.home import home, locked
from lmstack.registry.releases import Release
from lmstack.registry.signing import Keys, fields, sha256_of
from lmstack.registry.sources.known import KNOWN
from lmstack.registry.verdicts import GateVerdict

__all__ = ["Alias", "AliasEvent", "Aliases", "EventKind"]

EventKind = Literal["promoted", "held", "rejected", "rolled back", "looked at"]
_KINDS_OF: tuple[EventKind, ...] = get_args(EventKind)
_OF_DECISION: Mapping[str, EventKind] = {
    "PROMOTE": "promoted",
    "HOLD": "held",
    "REJECT": "rejected",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_FILE = {"format": str, "events": list}
_FORMAT = "lmstack.alias/1"
_EVENT = {
    "format": str,
    "alias": str,
    "number": int,
    "previous": str,
    "kind": str,
    "date": str,
    "release": dict,
    "verdict": (dict, type(None)),
}
_EVENT_FORMAT = "lmstack.alias_event/{}"  # version 2: of a release with documents


@dataclass(frozen=True)
class AliasEvent:
    """``verdict``: signed, of all but a rollback. "looked at": the gate was asked, and its verdict
    was to move nothing."""

    number: int
    kind: EventKind
    date: str
    release: Release
    verdict: Mapping[str, Any] | None

    @property
    def moves(self) -> bool:
        """Whether the alias stood for ``release`` after it."""
        return self.kind in ("promoted", "rolled back")


@dataclass(frozen=True)
class Alias:
    """An alias whose file was read and verified. ``events``: oldest first."""

    name: str
    events: tuple[AliasEvent, ...]
    keys: Keys

    @property
    def release(self) -> Release | None:
        """What it stands for; None before the first that passed."""
        return next((each.release for each in reversed(self.events) if each.moves), None)

    @property
    def before(self) -> Release | None:
        """Where a rollback goes: the release that it stood for before that one, and that it was
        not rolled back from since it was last promoted."""
        past: list[Release] = []
        for event in self.events:
            if event.kind == "rolled back":
                withdrawn = past.pop()
                if event.release in past:
                    while past[-1] != event.release:
                        past.pop()
                past = [each for each in past if each != withdrawn]
            if event.moves and event.release not in past[-1:]:
                past.append(event.release)
        return past[-2] if len(past) > 1 else None

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """All that it ever stood for, latest first."""
        past = [each.release for each in reversed(self.events) if each.moves]
        return tuple(dict.fromkeys(past))

    def named(self, digest: str) -> Release:
        """The release whose digest begins so (`Release.is_named`), or that is shown so
        (`Release.short`). A whole digest names one release, and no other form of the same files."""
        found = [each for each in self.releases if each.is_named(digest)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(each.short for each in self.releases) or "none"
        if found:
            # One without parts is told from those with parts by all of its digits alone.
            exact = (e.digest if e.digest == e.content else e.short for e in found)
            raise InputError(
                f"{shown(digest)} begins the digest of {len(found)} releases of {self.name}",
                hint=f"say which form: {' or '.join(exact)}",
            )
        raise NotFoundError(
            f"{self.name} never stood for {shown(digest)}",
            hint=f"it stood for {known}; lmstack release promote is the way to another",
        )

    def verdict_of(self, release: Release) -> GateVerdict:
        """The verdict that lets ``release`` be this alias, verified. `IntegrityError` with the
        reason where there is none."""
        for event in reversed(self.events):
            if event.kind == "promoted" and event.release == release:
                body = self.keys.opened(event.verdict, f"the verdict on {release.short}")
                verdict = GateVerdict.from_json(body)
                verdict.check_passes(self.name, release)
                return verdict
        raise IntegrityError(
            f"{self.name} has no passing verdict on {release.short}",
            hint=f"lmstack release promote {release.model} --to {self.name} --gate FILE",
        )

    def verdicts(self) -> list[GateVerdict]:
        """Of all events, verified, oldest first; those of keys that are trusted no more are left
        out."""
        found = []
        for event in self.events:
            if event.verdict is not None:
                try:
                    body = self.keys.opened(event.verdict, "a verdict")
                except IntegrityError:
                    continue
                found.append(GateVerdict.from_json(body))
        return found


class Aliases:
    """The aliases under ``root``: `home()` unless given. Making an `Aliases` touches nothing."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else home()
        self.keys = Keys(self.root)

    @property
    def folder(self) -> Path:
        return self.root / "aliases"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json") if _NAME.match(path.stem))

    def has(self, name: str) -> bool:
        """Whether there is an alias of the name, verified or not."""
        return _NAME.match(name) is not None and self._path(name).is_file()

    def read(self, name: str) -> Alias:
        """`IntegrityError` with the reason where its file is not as it was signed."""
        if not self.has(name):
            guess = nearest(name, self.names())
            raise NotFoundError(
                f"there is no alias {shown(name)}",
                hint=f"did you mean {guess}?"
                if guess
                else f"lmstack release promote MODEL --to {name if _NAME.match(name) else 'prod'}"
                " --gate FILE",
            )
        return self._read(name)[0]

    def files_of(self, name: str) -> tuple[object, ...]:
        """Equal as long as neither the file of the alias nor a trusted key has changed. Nothing is
        read, and what is wrong with them raises nothing."""
        try:
            keys = sorted(self.keys.trusted.iterdir())
        except OSError:
            keys = []
        return tuple(map(_state_of, (self._path(name), *keys)))

    def check_name(self, name: str) -> None:
        """`InputError` for a name that no alias can have."""
        if not _NAME.match(name):
            raise InputError(
                f"{shown(name)} is no name for an alias",
                hint="small letters, digits, dots and dashes, at most 64: prod",
                param="to",
            )
        if name in KNOWN or (self.root / "models" / name).exists():
            raise InputError(
                f"{name} is the name of a model",
                hint="give the alias a name of its own: prod",
                param="to",
            )

    def record(
        self,
        verdict: GateVerdict,
        keep: Callable[[dict[str, Any]], object] = lambda _signed: None,
        *,
        check: Callable[[Alias], object] = lambda _alias: None,
        moves: bool = True,
    ) -> Alias:
        """Sign ``verdict``, hand it to ``keep``, and add it to its alias, which stands for the
        release from then on if the verdict is PROMOTE and is not only to be counted (``moves``).
        ``check`` may refuse it by what the alias has been: nobody changes that meanwhile.
        `InputError` where the alias no longer stands for the verdict's baseline: somebody was
        faster."""
        name = verdict.alias
        self.check_name(name)
        with locked(self.folder / f"{name}.lock"):
            alias, sealed = self._read(name) if self.has(name) else (self._fresh(name), [])
            now = alias.release.digest if alias.release is not None else None
            if now != verdict.baseline:
                raise InputError(
                    f"{name} was moved to {now} while this was measured against"
                    f" {verdict.baseline or 'nothing'}",
                    hint="run the command again: what was measured is kept",
                    param="to",
                )
            check(alias)
            signed = self.keys.seal(verdict.to_json())
            keep(signed)
            kind = _OF_DECISION[verdict.decision] if moves else "looked at"
            return self._add(name, sealed, kind, verdict.release, signed)

    def roll_back(
        self,
        name: str,
        digest: str | None = None,
        *,
        check: Callable[[Release], object] = lambda _target: None,
    ) -> Alias:
        """Let the alias stand for the release before this one (`Alias.before`), or for the one
        whose digest begins so. ``check`` may refuse it. `InputError` where there is none,
        `IntegrityError` where its verdict does not hold."""
        self.read(name)  # says which there are
        with locked(self.folder / f"{name}.lock"):
            alias, sealed = self._read(name)
            target = alias.before if digest is None else alias.named(digest)
            if target is None:
                raise self._nothing_before(alias)
            if target == alias.release:
                raise InputError(f"{name} stands for {target.short} already")
            alias.verdict_of(target)
            check(target)
            return self._add(name, sealed, "rolled back", target, None)

    def _nothing_before(self, alias: Alias) -> InputError:
        others = [each.short for each in alias.releases if each != alias.release]
        if not others:
            return InputError(
                f"{alias.name} has stood for one release alone",
                hint="lmstack release promote MODEL is the way to another",
            )
        return InputError(
            f"{alias.name} has stood for nothing before that was not rolled back from since",
            hint="to serve one of them all the same, name it:"
            f" lmstack release rollback {alias.name} --to {' or '.join(others)}",
        )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _fresh(self, name: str) -> Alias:
        return Alias(name, (), self.keys)

    def _add(
        self,
        name: str,
        sealed: list[dict[str, Any]],
        kind: EventKind,
        release: Release,
        verdict: dict[str, Any] | None,
    ) -> Alias:
        body = {
            "format": _EVENT_FORMAT.format(release.version),
            "alias": name,
            "number": len(sealed) + 1,
            "previous": sha256_of(sealed[-1]) if sealed else "",
            "kind": kind,
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "release": release.to_json(),
            "verdict": verdict,
        }
        events = [*sealed, self.keys.seal(body)]
        lines = ",\n".join(canonical_json(event) for event in events)
        text = f'{{"format":"{_FORMAT}","events":[\n{lines}\n]}}\n'
        write_atomic(self._path(name), text.encode())
        return self._read(name)[0]

    def _read(self, name: str) -> tuple[Alias, list[dict[str, Any]]]:
        path = self._path(name)
        try:
            data = fields(parse_json(path.read_text(encoding="utf-8")), str(path), _FILE)
        except OSError as error:
            raise store_error(error, path, "reading") from error
        except ValueError as error:
            raise IntegrityError(
                f"{path} is damaged: {error}", hint="restore it, or promote again"
            ) from error
        if data["format"] != _FORMAT:
            raise FormatError(
                f"{path} has the format {shown(data['format'])}",
                hint=f"this lmstack reads {_FORMAT}",
            )
        sealed, events, previous = data["events"], [], ""
        for number, each in enumerate(sealed, 1):
            what = f"entry {number} of {path}"
            body = each.get("body") if isinstance(each, dict) else None
            if number == len(sealed):  # which vouches for those before it
                body = self.keys.opened(each, what)
            events.append(_event(body, name, number, previous, what))
            previous = sha256_of(each)
        if not events:
            raise IntegrityError(f"{path} is empty", hint="restore it, or promote again")
        return Alias(name, tuple(events), self.keys), sealed


def _state_of(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:
        return (path,)
    return path, found.st_mtime_ns, found.st_size, found.st_ino


def _event(body: Any, alias: str, number: int, previous: str, what: str) -> AliasEvent:
    data = fields(body, what, _EVENT)
    if (data["alias"], data["number"], data["previous"]) != (alias, number, previous):
        raise IntegrityError(
            f"{what} does not belong there: it is number {data['number']} of {data['alias']}, or"
            " what stood before it was changed",
            hint="restore the file from a backup, or promote again",
        )
    release = Release.from_json(data["release"])
    if data["format"] != _EVENT_FORMAT.format(release.version) or data["kind"] not in _KINDS_OF:
        raise FormatError(f"{what} is {shown(data['kind'])} in the format {shown(data['format'])}")
    return AliasEvent(number, data["kind"], data["date"], release, data["verdict"])
