"""Signed records: who can write them, and what is believed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError, IntegrityError, LmstackError, NotFoundError, StoreError
from lmstack.core.json_text import canonical_json
from lmstack.registry.signing import Keys, _write_private, fields

PEM, INFO = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
curve = X25519PrivateKey.generate
BODY = {"alias": "prod", "figures": [0.1, 1e-7, None], "name": "é"}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_the_private_key_is_made_once_and_only_its_owner_reads_it(keys: Keys) -> None:
    first = keys.seal(BODY)
    assert stat.S_IMODE(keys.private.stat().st_mode) == 0o600
    assert keys.seal(BODY) == first
    assert keys.opened(first, "it") == BODY


def test_a_machine_without_the_private_key_verifies(keys: Keys) -> None:
    sealed = keys.seal(BODY)
    keys.private.unlink()
    assert keys.opened(json.loads(json.dumps(sealed)), "it") == BODY


def test_a_signature_is_that_of_the_standard_library_of_cryptography(keys: Keys) -> None:
    sealed = keys.seal(BODY)
    key = load_pem_private_key(keys.private.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    import base64

    assert base64.b64decode(sealed["signature"]) == key.sign(
        b"lmstack record 1\n" + canonical_json(BODY).encode()
    )


@pytest.mark.parametrize("signature", ["", "AA==", "====", "A" * 88, "\u00e9", "a b"])
def test_a_record_without_its_signature_is_refused(keys: Keys, signature: str) -> None:
    sealed = keys.seal(BODY)
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        keys.opened({**sealed, "signature": signature}, "it")


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key in value for found in _paths(value[key], (*at, key))]
    if isinstance(value, list):
        return [found for n, each in enumerate(value) for found in _paths(each, (*at, n))]
    return [at]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.data(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_no_value_can_be_changed(keys: Keys, data: st.DataObject, value: Any) -> None:
    sealed = keys.seal(BODY)
    path = data.draw(st.sampled_from(_paths(sealed)))
    changed = json.loads(json.dumps(sealed))
    place = changed
    for step in path[:-1]:
        place = place[step]
    if json.dumps(place[path[-1]]) == json.dumps(value):
        return
    place[path[-1]] = value
    with pytest.raises(LmstackError):
        keys.opened(changed, "it")


def test_a_foreign_key_is_refused(keys: Keys, tmp_path: Path) -> None:
    keys.seal(BODY)
    foreign = Keys(tmp_path / "elsewhere").seal(BODY)
    with pytest.raises(IntegrityError, match="not trusted"):
        keys.opened(foreign, "it")


def test_nothing_is_believed_where_no_key_is_trusted(keys: Keys) -> None:
    sealed = keys.seal(BODY)
    next(keys.trusted.glob("*.pem")).unlink()
    with pytest.raises(NotFoundError, match="no key is trusted"):
        keys.opened(sealed, "it")


def test_a_private_key_that_was_replaced_signs_nothing(keys: Keys, tmp_path: Path) -> None:
    keys.seal(BODY)
    other = Keys(tmp_path / "elsewhere")
    other.seal(BODY)
    keys.private.write_bytes(other.private.read_bytes())
    with pytest.raises(IntegrityError, match="is not one of those"):
        keys.seal(BODY)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX'")
def test_a_private_key_that_others_can_read_is_not_used(keys: Keys) -> None:
    keys.seal(BODY)
    keys.private.chmod(0o640)
    with pytest.raises(IntegrityError, match="can be read by others"):
        keys.seal(BODY)


def test_a_file_that_is_no_key_is_said(keys: Keys) -> None:
    sealed = keys.seal(BODY)
    (keys.trusted / "x.pem").write_text("nothing")
    with pytest.raises(FormatError, match="no public key"):
        keys.opened(sealed, "it")


def test_a_trusted_key_of_another_kind_is_passed_over(keys: Keys) -> None:
    sealed = keys.seal(BODY)
    [own] = keys.trusted.iterdir()
    (keys.trusted / "curve.pem").write_bytes(curve().public_key().public_bytes(PEM, INFO))
    assert keys.opened(sealed, "it") == BODY
    own.unlink()
    with pytest.raises(NotFoundError, match="no key is trusted"):
        keys.opened(sealed, "it")


def test_a_private_key_that_is_none_or_of_another_kind_is_said(keys: Keys) -> None:
    keys.seal(BODY)
    keys.private.write_text("nothing")
    with pytest.raises(FormatError, match=r"signing\.pem is no private key"):
        keys.seal(BODY)
    keys.private.write_bytes(curve().private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(FormatError, match=r"signing\.pem is not an Ed25519 key"):
        keys.seal(BODY)


def test_keys_lie_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path))
    assert Keys().private == tmp_path / "keys" / "signing.pem"
    assert Keys(tmp_path / "x").trusted == tmp_path / "x" / "keys" / "trusted"


def test_a_field_that_is_wrong_is_named() -> None:
    for value, said in (
        ({"b": True}, "it lacks 'a'"),
        ({"a": 1, "b": True, "c": 2}, "it has the unknown field 'c'"),
        ({"a": True, "b": True}, "a of it is True"),
        ({"a": 1, "b": 1}, "b of it is 1"),
        ([], r"it is \[\], not an object"),
    ):
        with pytest.raises(FormatError, match=said):
            fields(value, "it", {"a": int, "b": bool})
    assert fields({"a": 1, "b": False}, "it", {"a": int, "b": bool}) == {"a": 1, "b": False}


def test_fields_are_exactly_those_expected() -> None:
    assert fields({"a": 1}, "it", {"a": int}) == {"a": 1}
    for value in ([], {}, {"a": 1, "b": 2}, {"a": "1"}, {"a": True}):
        with pytest.raises(FormatError, match="it"):
            fields(value, "it", {"a": int})


def test_a_key_that_cannot_be_read_or_written_is_named(keys: Keys) -> None:
    keys.private.mkdir(parents=True)
    with pytest.raises(StoreError, match=f"^reading {keys.private} failed: Is a directory"):
        keys.seal(BODY)
    with pytest.raises(StoreError, match=f"^writing {keys.private} failed: "):
        _write_private(keys.private, b"x")
    (keys.trusted / "x.pem").mkdir(parents=True)
    with pytest.raises(StoreError, match=f"^reading {keys.trusted} failed: Is a directory"):
        keys.opened({"body": {}, "key": "", "signature": ""}, "it")
