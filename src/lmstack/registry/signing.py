"""Records that only a holder of the key can have written: JSON signed with Ed25519 (RFC 8032).

    $LMSTACK_HOME/keys/signing.pem          the private key, mode 0600, made when it is first needed
    $LMSTACK_HOME/keys/trusted/*.pem        public keys whose records are believed
    $LMSTACK_HOME/cache-UID.key             the secret of `cache_key`, mode 0600

A machine that only serves needs ``trusted`` and no private key: it can verify and not sign.
Whoever can write to ``trusted`` decides what is believed; the folder is the root of trust. Not
covered: what a record says (`verdicts`, `aliases`), what a cache holds (`card`, `weight_cache`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError, IntegrityError, NotFoundError, StoreError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.core.json_text import canonical_json
from lmstack.registry.home import home, locked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

log = logging.getLogger("lmstack.registry")

__all__ = ["Keys", "cache_key", "fields", "sha256_of"]

# So that a signature by this key over anything else is never one over a record.
_PREFIX = b"lmstack record 1\n"
_SEALED = {"body": dict, "key": str, "signature": str}
# So that no other file of this user, moved to its place, is a key that somebody knows.
_CACHE_KEY = re.compile(rb"lmstack cache key 1\n([0-9a-f]{64})\n\Z")


def sha256_of(value: Any) -> str:
    """``sha256:...`` of its canonical JSON."""
    return f"sha256:{hashlib.sha256(canonical_json(value).encode()).hexdigest()}"


def fields(value: Any, what: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """``value``, if it is an object with exactly the names of ``kinds``, each of its type;
    `FormatError` otherwise."""
    if not isinstance(value, dict):
        raise FormatError(f"{what} is {shown(value)}, not an object")
    for name in (*value, *kinds):
        if name not in kinds or name not in value:
            has = "lacks" if name in kinds else "has the unknown field"
            raise FormatError(f"{what} {has} {shown(name)}")
    for name, kind in kinds.items():
        if not isinstance(value[name], kind) or (
            isinstance(value[name], bool) and kind is not bool
        ):
            raise FormatError(f"{name} of {what} is {shown(value[name])}")
    return value


class Keys:
    """The keys under ``root``: `home()` unless given. Making a `Keys` touches nothing."""

    def __init__(self, root: Path | None = None) -> None:
        self.folder = (root if root is not None else home()) / "keys"

    @property
    def private(self) -> Path:
        return self.folder / "signing.pem"

    @property
    def trusted(self) -> Path:
        return self.folder / "trusted"

    def seal(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``body``, signed. The first call makes the key pair. `IntegrityError` where the private
        key is readable by others, or none of the trusted ones belongs to it."""
        key = self._private_key()
        public = key.public_key()
        name = _name_of(public)
        if name not in self._trusted_keys():
            raise IntegrityError(
                f"the key in {self.private} is not one of those in {self.trusted}",
                hint="put the key back that was there, or, if you replaced it on purpose, its"
                f" public half into {self.trusted}: openssl pkey -in {self.private} -pubout"
                f" -out {self.trusted / 'new.pem'}",
            )
        signature = key.sign(_PREFIX + canonical_json(body).encode())
        return {
            "body": dict(body),
            "key": name,
            "signature": base64.b64encode(signature).decode("ascii"),
        }

    def opened(self, sealed: Any, what: str) -> dict[str, Any]:
        """The body of what `seal` gave. `IntegrityError` where it was changed since, or signed
        with a key that is not trusted. ``what`` it is, for the message."""
        from cryptography.exceptions import InvalidSignature

        found = fields(sealed, what, _SEALED)
        key = self._trusted_keys().get(found["key"])
        if key is None:
            raise IntegrityError(
                f"{what} is signed with the key {shown(found['key'][:16])}, which is not trusted"
                " here",
                hint=f"keys that are trusted are in {self.trusted}; do not add one that you cannot"
                " vouch for",
            )
        try:
            signature = base64.b64decode(found["signature"], validate=True)
            key.verify(signature, _PREFIX + canonical_json(found["body"]).encode())
        except (InvalidSignature, binascii.Error, ValueError):
            raise IntegrityError(
                f"{what} was changed after it was signed",
                hint="restore it, or promote the model again",
            ) from None
        body: dict[str, Any] = found["body"]
        return body

    def _private_key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        with locked(self.folder / "lock"):
            if not self.private.exists():
                self._make()
        try:
            mode = self.private.stat().st_mode
            content = self.private.read_bytes()
        except OSError as error:
            raise store_error(error, self.private, "reading") from error
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise IntegrityError(
                f"{self.private} can be read by others (mode {stat.S_IMODE(mode):04o}), who could"
                " sign with it",
                hint=f"chmod 600 {self.private}, or delete it if somebody may have read it",
            )
        try:
            found = load_pem_private_key(content, None)
        except (ValueError, TypeError) as error:
            raise FormatError(
                f"{self.private} is no private key: {error}",
                hint="restore it from a backup; without it, delete it, and promote again",
            ) from error
        if not isinstance(found, Ed25519PrivateKey):
            raise FormatError(
                f"{self.private} is not an Ed25519 key", hint="openssl genpkey -algorithm ed25519"
            )
        return found

    def _make(self) -> None:
        """The public half first: a process killed between the two leaves a key that nobody can
        sign with, and never one that nobody trusts."""
        from cryptography.hazmat.primitives import serialization as pem
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(
            pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        write_atomic(self.trusted / f"{_name_of(key.public_key())[:16]}.pem", public)
        _write_private(self.private, private)

    def _trusted_keys(self) -> dict[str, Ed25519PublicKey]:
        """By name, which follows from the key and not from its file."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        found = {}
        try:
            paths = sorted(self.trusted.glob("*.pem"))
            contents = [path.read_bytes() for path in paths]
        except OSError as error:
            raise store_error(error, self.trusted, "reading") from error
        for path, content in zip(paths, contents, strict=True):
            try:
                key = load_pem_public_key(content)
            except (ValueError, TypeError) as error:
                raise FormatError(f"{path} is no public key: {error}", hint="remove it") from error
            if isinstance(key, Ed25519PublicKey):
                found[_name_of(key)] = key
        if not found:
            raise NotFoundError(
                f"no key is trusted here: {self.trusted} holds none",
                hint="copy the public key of the machine that promotes into that folder",
            )
        return found


def cache_key(root: Path) -> bytes | None:
    """What tells the caches that this user wrote under ``root`` from those of others (HMAC). Made
    when it is first needed. None where that fails: then no cache is believed, and none is written.

    Only a file that is this user's and that nobody else can read is the key, so that one who can
    write to ``root`` cannot bring his own; another is replaced, and all that is kept made anew."""
    user = getattr(os, "geteuid", lambda: 0)()
    path = root / f"cache-{user}.key"
    found = _cache_key(path, user)
    if found is not None:
        return found
    try:
        with locked(root / "locks" / f"{path.name}.lock"):
            found = _cache_key(path, user)
            if found is None:
                if path.exists():
                    _warn_once(path)
                _write_private(path, b"lmstack cache key 1\n%s\n" % secrets.token_hex(32).encode())
                found = _cache_key(path, user)
    except StoreError as error:
        log.info("nothing is kept for the next start: %s", error)
    return found


@lru_cache
def _warn_once(path: Path) -> None:
    """A disk without modes would have it said at every file."""
    log.warning("%s is replaced: it could be read or written by others", path)


def _cache_key(path: Path, user: int) -> bytes | None:
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            facts = os.fstat(file.fileno())
            found = _CACHE_KEY.match(file.read(1000))
    except OSError:
        return None
    others = os.name == "posix" and (facts.st_uid != user or stat.S_IMODE(facts.st_mode) & 0o077)
    return None if found is None or others else bytes.fromhex(found[1].decode("ascii"))


def _name_of(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _write_private(path: Path, content: bytes) -> None:
    """Never readable by others, at no moment."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise store_error(error, path, "writing") from error
