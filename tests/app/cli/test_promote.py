"""`lmstack release` as a user types it: what is promoted, rolled back, listed and refused."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.app.cli.made_once import made_once, new_home
from tests.app.cli.numbers_task import TASK, hardly_trained, write_numbers

from lmstack.app.cli.commands._served_folder import served
from lmstack.core import LmstackError, Message
from lmstack.registry import Store, aliases
from lmstack.registry.aliases import Aliases
from lmstack.release import promotion as promoting
from lmstack.release import releases

if TYPE_CHECKING:
    from tests.app.conftest import Ran, Run

# Answers of a few words, as a chat.
CHATS = """
name: chats
data: numbers.jsonl
input: "cat {{n}}"
targets: endings
sampling: {max_tokens: 2}
scorer: exact_match
"""
LEAST = "rules:\n  - {task: numbers, kind: at_least, threshold: %s}\n"
# An untrained model's form costs next to nothing, and 120 samples show little.
BOTH = LEAST % 0.05 + "  - {task: numbers, kind: non-inferior, margin: %s}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardly_trained(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(place, monkeypatch)


@pytest.fixture
def folder(home: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    # The same usual form on every machine.
    monkeypatch.setattr("lmstack.serve.forms.multiplies_bfloat16", lambda: True)
    found = home.parent
    shutil.copytree(made, found / "one")
    write_numbers(found, 60)
    (found / "gate.yaml").write_text(BOTH % 0.5)
    return found


@pytest.fixture
def promote(run: Run, folder: Path) -> Callable[..., Ran]:
    def call(*words: str, gate: str = "gate.yaml", to: str = "prod") -> Ran:
        return run("release", "promote", *words, "--to", to, "--gate", gate, "--task", "task.yaml")

    return call


Promote = Callable[..., "Ran"]


@pytest.fixture
def first_release(place: Path, folder: Path, promote: Promote) -> None:
    """`promote ./one --first` was typed: once for all tests, each of which goes on from there."""

    def make() -> None:
        done = promote("./one", "--first")
        assert done.code == 0, done.err

    made_once(folder, place / "first", make)


def stands_for() -> str | None:
    release = Aliases().read("prod").release
    return None if release is None else release.weights


def test_a_first_release_is_promoted_listed_served_and_named(
    run: Run, promote: Promote, folder: Path
) -> None:
    refused = promote("./one")
    assert refused.code == 1
    assert "say --first" in refused.err
    done = promote("./one", "--first", "--results", "results")
    assert done.code == 0, done.err
    assert done.out.startswith("PROMOTE: every rule is shown to hold (1 of them).")
    assert "Not tested, as there is nothing to compare with: numbers (non-inferior)." in done.out
    [state] = run("release", "list", "--json").json
    assert (state["alias"], state["problem"]) == ("prod", "")
    digest = state["release"]["digest"]
    shown = json.loads((folder / "results/candidate/numbers.json").read_text())
    assert shown["subject"]["digest"] == digest
    [asked] = run("eval", "run", "task.yaml", "--model", "prod", "--json").json
    assert asked["subject"]["digest"] == digest
    [kept] = Store().resolve(folder / "one").card.evaluation["verdicts"]
    assert kept["body"]["release"]["digest"] == digest
    assert kept["body"]["baseline"] is None
    assert kept["body"]["untested"] == ["numbers (non-inferior)"]
    [event] = run("release", "list", "prod", "--json").json
    assert (event["kind"], event["baseline"]) == ("promoted", None)


@pytest.mark.usefixtures("first_release")
def test_a_form_is_compared_with_production_and_rolled_back(run: Run, promote: Promote) -> None:
    done = promote("./one", "--weights", "float32")
    assert done.code == 0, done.err
    assert "(2 of them)" in done.out
    assert "a server that runs as `lmstack up prod` takes it" in done.err
    assert stands_for() == "float32"
    assert run("release", "list", "prod").out.splitlines()[-1].endswith("+bfloat16")
    again = promote("./one", "--weights", "float32")
    assert (again.code, "already" in again.out) == (0, True)
    back = run("release", "rollback", "prod")
    assert back.code == 0, back.err
    assert "one, bfloat16 again" in back.out
    assert "a server that runs as `lmstack up prod` takes it" in back.err
    assert stands_for() == "bfloat16"
    forward = run(
        "release", "rollback", "prod", "--to", Aliases().read("prod").releases[1].digest, "--json"
    )
    assert forward.json["release"]["weights"] == "float32"
    kinds = [event["kind"] for event in run("release", "list", "prod", "--json").json]
    assert kinds == ["promoted", "promoted", "rolled back", "rolled back"]
    assert "rolled back" in run("release", "list", "prod").out


def test_which_of_two_forms_is_meant_can_be_said_as_the_error_says(
    run: Run, promote: Promote
) -> None:
    promote("./one", "--first")
    promote("./one", "--weights", "float32")
    forms = Aliases().read("prod").releases
    start = forms[0].content.removeprefix("sha256:")[:12]
    unclear = run("eval", "run", "task.yaml", "--model", f"prod@{start}")
    assert unclear.code == 1
    said = re.findall(r"(sha256:\S+)(?: or |$)", unclear.err.split("say which form: ")[1], re.M)
    for form, digest in zip(forms, said, strict=True):
        done = run("eval", "run", "task.yaml", "--model", f"prod@{digest}", "--json")
        assert done.code == 0, done.out
        assert done.json[0]["subject"]["digest"] == form.digest


@pytest.mark.usefixtures("first_release")
def test_what_the_gate_does_not_pass_moves_nothing_and_is_kept(
    run: Run, promote: Promote, folder: Path
) -> None:
    for text, verdict, kind in (
        (BOTH % 0.001, "HOLD:", "held"),
        (LEAST % 0.99, "REJECT:", "rejected"),
    ):
        Path("other.yaml").write_text(text)
        changed = promote("./one", "--weights", "float32", gate="other.yaml")
        assert changed.code == 1
        assert "is not the gate by which" in changed.err
        done = promote("./one", "--weights", "float32", "--new-rules", gate="other.yaml")
        assert (done.code, done.out.split()[0]) == (1, verdict), done.err
        assert "prod still stands for" in done.out
        assert "a server" not in done.err
        assert Aliases().read("prod").events[-1].kind == kind
    assert stands_for() == "bfloat16"
    decisions = [
        each["body"]["decision"]
        for each in Store().resolve(folder / "one").card.evaluation["verdicts"]
    ]
    assert decisions == ["PROMOTE", "HOLD", "REJECT"]
    refused = run(
        "release", "rollback", "prod", "--to", Aliases().read("prod").events[-1].release.digest
    )
    assert refused.code == 1
    assert "never stood for" in refused.err


def test_a_dry_run_says_what_would_be_and_keeps_the_look_alone(
    promote: Promote, folder: Path
) -> None:
    done = promote("./one", "--first", "--dry-run", "--json")
    assert (done.code, done.json["verdict"], done.json["moved"]) == (0, "PROMOTE", False)
    alias = Aliases().read("prod")
    assert ([each.kind for each in alias.events], alias.release) == (["looked at"], None)
    assert "verdicts" not in Store().resolve(folder / "one").card.evaluation
    served = promote("prod", "--first", to="staging")
    assert (served.code, "stands for nothing yet" in served.err) == (1, True)
    # The look is that of the promotion, which sees the same.
    assert promote("./one", "--first").code == 0
    assert stands_for() is not None


def with_another_sample(folder: Path) -> None:
    with (folder / "numbers.jsonl").open("a") as file:
        file.write('{"n": 99, "endings": [" mat", " dog"], "right": 0}\n')


@pytest.mark.usefixtures("first_release")
def test_dry_runs_are_looks(promote: Promote, folder: Path) -> None:
    """On other samples until one says PROMOTE, and then for good: the gate allows one look."""
    words = ("./one", "--weights", "int8")
    before = (folder / "numbers.jsonl").read_text()
    assert promote(*words, "--dry-run").out.startswith("PROMOTE")
    with_another_sample(folder)
    for more in (["--dry-run"], []):
        again = promote(*words, *more)
        assert (again.code, again.out) == (1, "")
        assert "the gate allows 1 look at a candidate, and this would be number 2" in again.err
    assert stands_for() != "int8"
    (folder / "numbers.jsonl").write_text(before)
    assert promote(*words).code == 0  # the look that was taken
    assert stands_for() == "int8"


@pytest.mark.usefixtures("first_release")
def test_looks_are_counted_while_nobody_else_can_take_one(
    promote: Promote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another look, recorded by another process just before this one takes the alias's lock."""
    words = ("./one", "--weights", "int8")
    locked, theirs = aliases.locked, []
    with_another_sample(folder)

    @contextlib.contextmanager
    def late(path: Path) -> Iterator[None]:
        monkeypatch.setattr(aliases, "locked", locked)
        (folder / "numbers.jsonl").write_text((folder / "numbers.jsonl").read_text() * 2)
        theirs.append(promote(*words, "--dry-run").code)
        with locked(path):
            yield

    monkeypatch.setattr(aliases, "locked", late)
    refused = promote(*words)
    assert theirs == [0]
    assert (refused.code, "this would be number 2" in refused.err) == (1, True)


def test_another_alias_can_be_promoted(promote: Promote) -> None:
    promote("./one", "--first", "--weights", "float32", to="staging")
    done = promote("staging", "--first")
    assert done.code == 0, done.err
    assert Aliases().read("prod").release == Aliases().read("staging").release
    refused = promote("staging", "--weights", "int8")
    assert "evaluated with the weights in float32" in refused.err


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (promoting, "_decided"),
        pytest.param(promoting, "_recorded", marks=pytest.mark.long),
        pytest.param(Store, "keep_verdict", marks=pytest.mark.long),
        (Aliases, "_add"),
    ],
)
@pytest.mark.usefixtures("first_release")
def test_a_promotion_that_was_stopped_goes_on(
    promote: Promote, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    before = Aliases().read("prod").events

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, stopped)
        done = promote("./one", "--weights", "float32")
    assert done.code == 130
    assert "what was answered is kept, and prod is as it was" in done.err
    assert Aliases().read("prod").events == before
    again = promote("./one", "--weights", "float32")
    assert again.code == 0
    assert "candidate: 1 of 60 samples 1 from before" in again.err
    assert "production: 1 of 60 samples 1 from before" in again.err
    assert stands_for() == "float32"


def _bytes(folder: Path) -> None:
    weights = folder / "one/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def _template(folder: Path) -> None:
    (folder / "one/chat_template.jinja").write_text("{{ messages[0]['content'] }}")


def _new_file(folder: Path) -> None:
    (folder / "one/generation_defaults.json").write_text("{}")


def _sampling(folder: Path) -> None:
    card = folder / "one/card.json"
    values = json.loads(card.read_text())
    card.write_text(json.dumps({**values, "sampling": {"temperature": 1.5}}))


def _alias_file(folder: Path) -> None:
    path = Aliases().folder / "prod.json"
    path.write_text(path.read_text().replace('"weights":"bfloat16"', '"weights":"float32"'))


def _public_key(folder: Path) -> None:
    for key in Aliases().keys.trusted.iterdir():
        key.unlink()


def _gone(folder: Path) -> None:
    shutil.rmtree(folder / "one")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_bytes, "has changed: sha256"),
        (_template, "chat_template.jinja"),
        (_new_file, "which is not of the model"),
        (_sampling, "computes as"),
        (_alias_file, "changed after it was signed"),
        (_public_key, "no key is trusted"),
        (_gone, "does not exist"),
    ],
)
@pytest.mark.usefixtures("first_release")
def test_an_alias_that_is_not_what_was_evaluated_is_refused(
    run: Run, promote: Promote, folder: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(folder)
    done = run("eval", "run", "task.yaml", "--model", "prod")
    assert done.code == 1
    assert reason in done.err
    assert "try:" in done.err
    assert "Traceback" not in done.err


def test_production_is_asked_for_likelihoods_after_its_own_template(promote: Promote) -> None:
    chats = TASK[: TASK.index("input:")].replace("name: numbers", "name: chats")
    chats += "input: [{role: user, text: 'cat {{n}}'}]\ntargets: n\nsolver: likelihood\n"
    Path("chats.yaml").write_text(chats + "scorer: perplexity\n")
    rule = "  - {task: chats, metric: bits_per_byte, kind: non-inferior, margin: 5}\n"
    Path("both.yaml").write_text(LEAST % 0.05 + rule)
    assert promote("./one", "--first", gate="both.yaml").code == 0
    done = promote("./one", "--weights", "int8", "--task", "chats.yaml", gate="both.yaml")
    assert done.code == 0, done.err
    assert "chats bits_per_byte: not worse" in done.out


def test_a_system_prompt_is_part_of_what_is_promoted(promote: Promote, folder: Path) -> None:
    Path("system.txt").write_text("the cat sat\n")
    Path("chats.yaml").write_text(CHATS)
    rule = "  - {task: chats, kind: non-inferior, margin: 0.5}\n"
    Path("both.yaml").write_text(LEAST % 0.05 + rule)
    assert promote("./one", "--first", gate="both.yaml").code == 0
    done = promote("./one", "--prompt", "system.txt", "--task", "chats.yaml", gate="both.yaml")
    assert done.code == 0, done.err
    release, before = releases.released("prod"), Aliases().read("prod").before
    assert release is not None
    assert before is not None
    assert release.title.endswith("prompt system.txt")
    user, system = Message("user", "cat"), Message("system", "the cat sat")
    with releases.opened(release) as prompted, releases.opened(before) as plain:
        answer = prompted.complete([user], max_tokens=4)
        same = plain.complete([system, user], max_tokens=4)
        own = prompted.complete([system, user], max_tokens=4)
        assert prompted.render_chat([user]) == plain.render_chat([system, user])
    assert answer.model.digest == release.digest
    assert same.model.digest == before.digest
    assert len({(each.text, each.usage.prompt_tokens) for each in (answer, same, own)}) == 1
    Path("system.txt").write_text("the dog sat\n")
    with pytest.raises(LmstackError, match="not the one that was evaluated"):
        releases.released("prod")


def test_a_prompt_that_no_rule_can_see_is_not_promoted(promote: Promote, folder: Path) -> None:
    """Likelihoods, raw prompts and chats with a prompt of their own are asked without it."""
    Path("system.txt").write_text("the cat sat\n")
    alone = promote("./one", "--prompt", "system.txt", "--first")
    assert "there is a system prompt, and no rule of gate.yaml would show what it does" in alone.err
    assert "{task: gsm8k_chat, metric: rouge1_f1, kind: at_least, threshold: 0.2}" in alone.err
    assert "samples" not in alone.err  # nothing was measured
    assert promote("./one", "--first").code == 0
    rule = "  - {task: chats, kind: at_least, threshold: 0.01}\n"
    Path("both.yaml").write_text(BOTH % 0.5 + rule)
    for more in ("raw: true\n", "instruction: be brief\n"):
        Path("chats.yaml").write_text(CHATS + more)
        words = ("--prompt", "system.txt", "--task", "chats.yaml", "--new-rules")
        done = promote("./one", *words, gate="both.yaml")
        assert done.code == 1
        assert "the system prompt is not production's" in done.err
        assert "kind: non-inferior, margin: 0.03}; --new-rules" in done.err
        assert "samples" not in done.err


@pytest.mark.usefixtures("first_release")
def test_what_an_option_would_change_is_refused(run: Run, promote: Promote) -> None:
    done = run("eval", "run", "task.yaml", "--model", "prod", "--weights", "int8")
    assert "evaluated with the weights in bfloat16, not in int8" in done.err
    up = run("up", "prod", "--adapter", "x=.")
    assert "evaluated without --adapter" in up.err
    nothing = run("up", "staging")
    assert "there is no folder" in nothing.err


def test_an_alias_that_never_passed_is_refused(run: Run, promote: Promote) -> None:
    Path("high.yaml").write_text(LEAST % 0.99)
    assert promote("./one", "--first", gate="high.yaml").code == 1
    done = run("up", "prod")
    assert done.code == 1
    assert "the gate has rejected" in done.err
    [state] = run("release", "list", "--json").json
    assert state["release"] is None
    listed = run("release", "list")
    assert "nothing" in listed.out
    assert "stands for nothing yet" in listed.err


@pytest.mark.usefixtures("first_release")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_beside_an_alias_is_not_served_in_its_place(run: Run, kind: str) -> None:
    """Nor the alias in that of a folder that was meant."""
    if kind == "folder":
        Path("prod").mkdir()
    else:
        Path("prod").write_text("a file")
    done = run("up", "prod")
    assert done.code == 2
    assert f"prod is an alias, and there is a {kind} prod here, too" in done.err
    assert "lmstack up --model prod serves the alias, lmstack up --docs prod the folder" in done.err
    alone = served(None, None, "prod", has_adapters=False)
    assert (alone.docs, alone.model) == (None, "prod")
    docs = served(None, Path("prod"), None, has_adapters=False)
    assert (docs.docs, docs.model) == (Path("prod"), None)
    beside = served(Path("prod"), None, "prod", has_adapters=False)
    assert (beside.docs, beside.model) == (Path("prod"), "prod")


@pytest.mark.usefixtures("first_release")
def test_the_gate_is_not_asked_again_until_it_agrees(promote: Promote, folder: Path) -> None:
    """A look is another result; the same one again is none."""
    Path("narrow.yaml").write_text(BOTH % 0.001)
    words = ("./one", "--weights", "float32", "--new-rules")
    assert promote(*words, gate="narrow.yaml").out.startswith("HOLD")
    assert promote(*words, gate="narrow.yaml").out.startswith("HOLD")
    with_another_sample(folder)
    done = promote(*words, gate="narrow.yaml")
    assert done.code == 1
    assert "the gate allows 1 look at a candidate" in done.err


def test_what_is_wrong_with_a_call_is_said(run: Run, promote: Promote) -> None:
    assert "name of a model" in promote("./one", to="smollm2-135m-instruct").err
    assert "no name for an alias" in promote("./one", to="Prod!").err
    assert "not on this machine" in promote("openai:gpt", "--first").err
    unknown = run("release", "promote", "./one", "--to", "prod", "--gate", "gate.yaml", "--first")
    assert "--task numbers.yaml" in unknown.err
    Path("compare.yaml").write_text("rules:\n  - {task: numbers, margin: 0.1}\n")
    assert "no rule that is at_least" in promote("./one", "--first", gate="compare.yaml").err
    assert "there is no alias 'prod'" in run("release", "rollback", "prod").err
    assert "there are no aliases yet" in run("release", "list").err


@pytest.mark.usefixtures("first_release")
def test_a_release_is_checked_where_it_is_loaded(promote: Promote) -> None:
    """Whatever was checked before: a model that computes otherwise is not handed out."""
    release = releases.released("prod")
    assert release is not None
    other = type(release)(release.model, release.digest + "+kv-other", release.weights)
    with pytest.raises(LmstackError, match="computes as"):
        releases.opened(other)
