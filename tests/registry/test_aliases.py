"""Aliases: moved by passing verdicts alone, with a history that cannot be rewritten."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.registry.releases import digest, documented, release, verdict

from lmstack.core import InputError, IntegrityError, LmstackError, NotFoundError, StoreError
from lmstack.registry.aliases import Alias, Aliases
from lmstack.registry.releases import Release
from lmstack.registry.store import Store


@pytest.fixture
def aliases(tmp_path: Path) -> Aliases:
    return Aliases(tmp_path)


def file(aliases: Aliases, name: str = "prod") -> Path:
    return aliases.folder / f"{name}.json"


def edited(aliases: Aliases, edit: Callable[[list[Any]], Any]) -> None:
    value = json.loads(file(aliases).read_text())
    edit(value["events"])
    file(aliases).write_text(json.dumps(value))


def test_an_alias_stands_for_what_was_promoted_last(aliases: Aliases) -> None:
    aliases.record(verdict("a"))
    signed: list[Any] = []
    alias = aliases.record(verdict("b", "a"), signed.append)
    assert alias.release == release("b")
    assert alias.before == release("a")
    assert [event.kind for event in alias.events] == ["promoted", "promoted"]
    assert signed == [alias.events[1].verdict]
    assert alias.verdict_of(release("b")).baseline == digest("a")
    assert aliases.names() == ["prod"]


@pytest.mark.parametrize(("decision", "kind"), [("HOLD", "held"), ("REJECT", "rejected")])
def test_what_did_not_pass_is_kept_and_moves_nothing(
    aliases: Aliases, decision: str, kind: str
) -> None:
    alias = aliases.record(verdict("a", decision=decision))
    assert (alias.release, alias.events[0].kind) == (None, kind)
    aliases.record(verdict("a"))
    alias = aliases.record(verdict("b", "a", decision=decision))
    assert alias.release == release("a")
    with pytest.raises(IntegrityError, match="no passing verdict"):
        alias.verdict_of(release("b"))


def test_of_two_promotions_at_once_the_second_is_told_and_nothing_is_lost(
    aliases: Aliases,
) -> None:
    aliases.record(verdict("a"))

    def promoted(letter: str) -> str:
        try:
            aliases.record(verdict(letter, "a"))
        except InputError as error:
            return str(error)
        return letter

    with ThreadPoolExecutor(4) as pool:
        told = sorted(pool.map(promoted, "bcde"), key=len)
    winner = told[0]
    assert all("was moved to" in each and "run the command again" in each for each in told[1:])
    alias = aliases.read("prod")
    assert alias.release == release(winner)
    assert len(alias.events) == 2
    aliases.record(verdict("f", winner))
    assert len(aliases.read("prod").events) == 3


def test_verdicts_written_at_once_are_all_kept(aliases: Aliases) -> None:
    aliases.record(verdict("a"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: aliases.record(verdict(n, "a", decision="HOLD")), "bcdef"))
    events = aliases.read("prod").events
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event.release for event in events} == {release(n) for n in "abcdef"}


def test_a_rollback_goes_to_the_release_before_or_to_the_one_named(aliases: Aliases) -> None:
    for letter, before in (("a", None), ("b", "a"), ("c", "b")):
        aliases.record(verdict(letter, before))
    assert aliases.roll_back("prod").release == release("b")
    assert aliases.roll_back("prod", "a" * 8).release == release("a")
    assert aliases.roll_back("prod", digest("c")).release == release("c")
    kinds = [event.kind for event in aliases.read("prod").events]
    assert kinds == ["promoted"] * 3 + ["rolled back"] * 3


def promoted(aliases: Aliases, letters: str) -> None:
    """One after the other."""
    for letter in letters:
        now = aliases.read("prod").release if aliases.has("prod") else None
        aliases.record(replace(verdict(letter), baseline=None if now is None else now.digest))


def letter(found: Release | None) -> str:
    return "" if found is None else found.model[-1]


def test_a_second_rollback_goes_further_back_and_never_to_what_was_withdrawn(
    aliases: Aliases,
) -> None:
    promoted(aliases, "abc")
    assert [letter(aliases.roll_back("prod").release) for _ in range(2)] == ["b", "a"]
    with pytest.raises(InputError, match="nothing before that was not rolled back") as caught:
        aliases.roll_back("prod")
    assert caught.value.hint is not None
    assert release("b").short in caught.value.hint
    assert letter(aliases.roll_back("prod", digest("c")).release) == "c"


@pytest.mark.parametrize(
    ("history", "before"),
    [
        ("a", ""),
        ("ab", "a"),
        ("abb", "a"),  # promoted again where it stands
        ("aba", "b"),
        ("abc<", "a"),
        ("abc<c", "b"),  # promoted again, it is no longer withdrawn
        ("abc<d", "b"),
        ("abc<d<", "a"),
        ("aba<", ""),  # the first a is the release that was withdrawn
        ("abca<", "b"),
        ("abac<", "b"),
        ("abc<<", ""),
        ("abc<<d", "a"),
        ("abc=a", ""),
        ("abc=ad", "a"),
        ("abc<=c", "a"),  # named, what was withdrawn stands; b was withdrawn for it
        ("abcd=b", "a"),
        ("abcd=b<", ""),
    ],
)
def test_where_a_rollback_goes(aliases: Aliases, history: str, before: str) -> None:
    """``<``: rolled back; ``=x``: rolled back to x; a letter: promoted."""
    steps = list(history)
    while steps:
        step = steps.pop(0)
        if step in "<=":
            aliases.roll_back("prod", digest(steps.pop(0)) if step == "=" else None)
        else:
            promoted(aliases, step)
    assert letter(aliases.read("prod").before) == before


def test_a_rollback_that_is_not_to_be_leaves_the_alias(aliases: Aliases) -> None:
    promoted(aliases, "ab")

    def refused(target: Release) -> None:
        raise IntegrityError(f"{target.model} is gone")

    with pytest.raises(IntegrityError, match="model-a is gone"):
        aliases.roll_back("prod", check=refused)
    assert letter(aliases.read("prod").release) == "b"


def test_a_look_moves_nothing_and_is_kept(aliases: Aliases) -> None:
    promoted(aliases, "a")
    seen: list[Alias] = []
    alias = aliases.record(verdict("b", "a"), check=seen.append, moves=False)
    assert (letter(alias.release), alias.events[-1].kind) == ("a", "looked at")
    assert [letter(each.release) for each in alias.verdicts()] == ["a", "b"]
    assert [len(each.events) for each in seen] == [1]
    with pytest.raises(NotFoundError, match="never stood for"):
        aliases.roll_back("prod", digest("b"))
    with pytest.raises(IntegrityError, match="no passing verdict"):
        alias.verdict_of(release("b"))


def test_one_digest_promoted_at_two_places_goes_back_to_the_first_by_its_own_verdict(
    aliases: Aliases,
) -> None:
    places = [replace(release("a"), model=place) for place in ("/one", "/two")]
    aliases.record(verdict("a", release=places[0]))
    aliases.record(verdict("a", "a", release=places[1]))
    alias = aliases.roll_back("prod")
    assert alias.release == places[0]
    assert [alias.verdict_of(place).release for place in places] == places


def test_a_verdict_of_a_key_that_is_gone_hides_no_other(aliases: Aliases) -> None:
    """Three keys, of which the middle one is removed."""
    baseline, trusted, keys = None, aliases.keys.trusted, []
    for name in "abc":
        aliases.record(verdict(name, baseline))
        aliases.keys.private.unlink()
        keys += [path for path in trusted.glob("*.pem") if path not in keys]
        baseline = name
    keys[1].unlink()
    assert [letter(each.release) for each in aliases.read("prod").verdicts()] == ["a", "c"]


def test_a_rollback_to_what_was_never_promoted_is_refused(aliases: Aliases) -> None:
    with pytest.raises(NotFoundError, match="no alias 'prod'"):
        aliases.roll_back("prod")
    aliases.record(verdict("a"))
    with pytest.raises(InputError, match="one release alone"):
        aliases.roll_back("prod")
    aliases.record(verdict("b", "a", decision="REJECT"))
    for never in ("b" * 12, "f" * 12):
        with pytest.raises(NotFoundError, match="never stood for"):
            aliases.roll_back("prod", never)
    with pytest.raises(InputError, match="already"):
        aliases.roll_back("prod", "a" * 12)
    assert len(aliases.read("prod").events) == 2


def _relabel(events: list[Any]) -> None:
    events[-1]["body"]["kind"] = "promoted"


def _pass_it(events: list[Any]) -> None:
    events[-1]["body"]["verdict"]["body"]["decision"] = "PROMOTE"


def _point_elsewhere(events: list[Any]) -> None:
    events[-1]["body"]["release"]["model"] = "another"


def _change_the_past(events: list[Any]) -> None:
    events[0]["body"]["release"]["digest"] = digest("f")


@pytest.mark.parametrize(
    "edit",
    [
        _relabel,
        _pass_it,
        _point_elsewhere,
        _change_the_past,
        lambda events: events.pop(0),
        lambda events: events.pop(1),
        lambda events: events.reverse(),
        lambda events: events.append(events[0]),
        lambda events: events.clear(),
        lambda events: events[-1].update(signature="AAAA"),
        lambda events: events.append(None),
        lambda events: events.append({"body": {}}),
    ],
)
def test_an_edited_file_is_refused(aliases: Aliases, edit: Callable[[list[Any]], Any]) -> None:
    for letter, before, decision in (("a", None, "PROMOTE"), ("b", "a", "PROMOTE")):
        aliases.record(verdict(letter, before, decision=decision))
    aliases.record(verdict("c", "b", decision="REJECT"))
    edited(aliases, edit)
    with pytest.raises(LmstackError):
        aliases.read("prod")


@pytest.fixture
def version_1(aliases: Aliases) -> Aliases:
    """A history as the first version wrote and signed it: model-a promoted, model-b held and then
    promoted, and rolled back. The private key is gone."""
    written = Path(__file__).parent / "version_1"
    for source, target in (
        ("prod.json", file(aliases)),
        ("trusted.pem", aliases.keys.trusted / "first.pem"),
    ):
        target.parent.mkdir(parents=True)
        target.write_bytes((written / source).read_bytes())
    return aliases


def test_a_history_of_version_1_is_read_and_goes_on(version_1: Aliases) -> None:
    before = json.loads(file(version_1).read_text())["events"]
    alias = version_1.read("prod")
    assert [event.kind for event in alias.events] == ["promoted", "held", "promoted", "rolled back"]
    assert alias.release == release("a")
    for letter in "ab":
        assert alias.verdict_of(release(letter)).passed
    assert len(alias.verdicts()) == 3
    alias = version_1.record(verdict("a", "a", release=documented()))
    assert alias.release == documented()
    events = json.loads(file(version_1).read_text())["events"]
    assert events[:4] == before
    formats = [each["body"]["format"] for each in events]
    assert formats == ["lmstack.alias_event/1"] * 4 + ["lmstack.alias_event/2"]
    assert events[4]["body"]["verdict"]["body"]["format"] == "lmstack.verdict/2"
    assert version_1.roll_back("prod").release == release("a")
    assert json.loads(file(version_1).read_text())["events"][5]["body"]["format"] == formats[0]


@pytest.mark.parametrize("edit", ["relabelled", "released"])
def test_an_edited_entry_of_version_1_is_refused(version_1: Aliases, edit: str) -> None:
    def change(events: list[Any]) -> None:
        if edit == "relabelled":
            events[1]["body"]["kind"] = "promoted"
        else:
            events[0]["body"]["release"]["docs"] = "/srv/docs"

    edited(version_1, change)
    with pytest.raises(LmstackError):
        version_1.read("prod")


def test_a_verdict_from_another_model_does_not_count(aliases: Aliases) -> None:
    """Even where the whole event is signed anew with a key that is trusted."""
    aliases.record(verdict("a"))
    alias = aliases.read("prod")
    [event] = alias.events
    value = json.loads(file(aliases).read_text())
    [sealed] = value["events"]
    body = {**sealed["body"], "release": release("b").to_json()}
    value["events"] = [aliases.keys.seal(body)]
    file(aliases).write_text(json.dumps(value))
    alias = aliases.read("prod")
    assert event.release == release("a")
    with pytest.raises(IntegrityError, match="not of sha256:bbbb"):
        alias.verdict_of(release("b"))


def test_a_rejecting_verdict_in_a_promotion_does_not_count(aliases: Aliases) -> None:
    aliases.record(verdict("a", decision="REJECT"))
    value = json.loads(file(aliases).read_text())
    body = {**value["events"][0]["body"], "kind": "promoted"}
    file(aliases).write_text(json.dumps({**value, "events": [aliases.keys.seal(body)]}))
    alias = aliases.read("prod")
    assert alias.release == release("a")
    with pytest.raises(IntegrityError, match="is REJECT"):
        alias.verdict_of(release("a"))


def test_the_file_of_another_alias_is_refused(aliases: Aliases) -> None:
    aliases.record(verdict("a"))
    file(aliases, "staging").write_bytes(file(aliases).read_bytes())
    with pytest.raises(IntegrityError, match="does not belong there"):
        aliases.read("staging")


def test_nothing_counts_once_its_key_is_trusted_no_more(aliases: Aliases, tmp_path: Path) -> None:
    aliases.record(verdict("a"))
    for path in aliases.keys.trusted.iterdir():
        path.unlink()
    aliases.keys.private.unlink()
    aliases.keys.seal({})  # another key pair
    with pytest.raises(IntegrityError, match="not trusted"):
        aliases.read("prod")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "x", "events": []}', "\x00"])
def test_a_damaged_file_is_refused(aliases: Aliases, text: str) -> None:
    aliases.record(verdict("a"))
    file(aliases).write_text(text)
    with pytest.raises(LmstackError) as caught:
        aliases.read("prod")
    assert str(file(aliases)) in caught.value.message


@pytest.mark.parametrize("name", ["", "Prod", "a/b", "../x", "-x", "a b", "x" * 65, "prod\n"])
def test_a_name_that_cannot_be_one_is_refused(aliases: Aliases, name: str) -> None:
    with pytest.raises(InputError, match="no name for an alias", check=about("to")):
        aliases.record(verdict("a", alias=name))
    assert not aliases.has(name)


def test_models_and_aliases_have_different_names(
    store: Store, model_folder: Path, tmp_path: Path
) -> None:
    aliases = Aliases(store.root)
    with pytest.raises(InputError, match="name of a model", check=about("to")):
        aliases.record(verdict("a", alias="smollm2-135m-instruct"))
    folder = model_folder.rename(tmp_path / "mine")
    store.pull(folder)
    with pytest.raises(InputError, match="name of a model", check=about("to")):
        aliases.record(verdict("a", alias="mine"))
    store.remove("mine")
    aliases.record(verdict("a", alias="mine"))
    with pytest.raises(InputError, match="name of an alias", check=about("name")):
        store.pull(folder)


def test_a_name_that_is_none_leads_to_the_one_meant(aliases: Aliases) -> None:
    aliases.record(verdict("a"))
    with pytest.raises(NotFoundError) as caught:
        aliases.read("prd")
    assert caught.value.hint == "did you mean prod?"


_KILLED = """
import json, os, signal, sys
from pathlib import Path
from tests.registry.releases import verdict
from lmstack.registry.aliases import Alias, Aliases
from lmstack.registry.releases import Release

def killing(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

aliases = Aliases(Path(sys.argv[1]))
before = sys.argv[2] or None
for owner, name in ((Path, "replace"), (os, "fsync"), (Path, "write_bytes"), (Path, "mkdir")):
    setattr(owner, name, killing(getattr(owner, name)))
for step in range(40):
    child = os.fork()
    if not child:
        left = step
        aliases.record(verdict("b", before))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    left = 1000
    now = aliases.read("prod").release if aliases.has("prod") else None
    print(json.dumps([os.waitstatus_to_exitcode(status), now and now.model]))
    if status == 0:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and kills the copies")
@pytest.mark.parametrize("before", ["", "a"])
def test_a_killed_promotion_leaves_the_state_of_before(aliases: Aliases, before: str) -> None:
    """Killed before the first, second, ... change to the disk, until one run is not."""
    if before:
        aliases.record(verdict("a"))
    words = [sys.executable, "-c", _KILLED, str(aliases.root), before]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *killed, last = map(json.loads, done.stdout.splitlines())
    assert len(killed) >= 3
    assert killed == [[-9, "model-a" if before else None]] * len(killed)
    assert last == [0, "model-b"]


def test_a_file_that_cannot_be_read_is_named_with_what_the_disk_says(
    aliases: Aliases, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases.record(verdict("a"))

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "as the disk says")

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(StoreError, match=f"^reading {file(aliases)} failed: as the disk says"):
        aliases.read("prod")
