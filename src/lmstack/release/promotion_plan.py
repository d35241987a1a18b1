"""What is known of a promotion before anything is measured: rules, tasks, and both sides.

A gate that cannot see what is to be promoted is refused here: one that asks no documents of a
release that has some, or generates nothing where the system prompt is another. Not covered:
measuring and deciding (`promotion`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import InputError
from lmstack.evals.gate import GateConfig
from lmstack.evals.gate.config import GateRule
from lmstack.evals.gating import read_gate
from lmstack.evals.system_tasks import system_in
from lmstack.evals.task import Task
from lmstack.evals.task_data import made
from lmstack.evals.task_forms import asks
from lmstack.release import released_documents, releases

if TYPE_CHECKING:
    from lmstack.registry.releases import Release

__all__ = ["Candidate", "PromotionPlan", "check_as_served", "planned"]

_CHATS = "{task: gsm8k_chat, metric: rouge1_f1, %s}"
_QUESTIONS = "{task: questions, metric: correct, %s}"


@dataclass(frozen=True)
class Candidate:
    """What is to be promoted: a name in the store, a path, or an alias, which already says its
    form, adapter, prompt and documents. ``prompt``: the file of a system prompt; ``docs``: a
    folder of documents that it answers from."""

    model: str
    weights: str | None = None
    adapter: Path | None = None
    prompt: Path | None = None
    docs: Path | None = None


@dataclass(frozen=True)
class PromotionPlan:
    """All that is known before anything is measured. ``production``: what the alias stands for,
    None where it stands for nothing. ``config``: the gate as declared; ``tested``: the rules of it
    that can be tested, all unless there is nothing to compare with. ``of_documents``: the tasks
    that ask documents. ``results``: a folder for them."""

    alias: str
    candidate: Candidate
    production: Release | None
    config: GateConfig
    tested: GateConfig
    tasks: Mapping[str, Task]
    of_documents: frozenset[str] = frozenset()
    results: Path | None = None
    at_once: int = 16

    @property
    def untested(self) -> tuple[str, ...]:
        """Rules of the gate that compare, where there is nothing to compare with."""
        left = [rule for rule in self.config.rules if rule not in self.tested.rules]
        return tuple(f"{rule.title} ({rule.kind})" for rule in left)

    @property
    def compared(self) -> set[str]:
        """The tasks that production runs, too."""
        return {rule.task for rule in self.tested.rules if rule.kind != "at_least"}


def planned(
    alias: str,
    candidate: Candidate,
    gate: Path,
    tasks: Callable[[Sequence[str]], Mapping[str, Task]],
    *,
    first: bool = False,
    new_rules: bool = False,
    results: Path | None = None,
    at_once: int = 16,
) -> PromotionPlan:
    """Checked as far as that can be done without loading a model. ``tasks``: gives those of the
    names. ``first``: there is nothing to compare with yet, which has to be said, so that an alias
    that was lost is not mistaken for one that never was. ``new_rules``: the gate may be another
    than the one by which production passed."""
    config = read_gate(gate)
    production = _production(alias, config, gate, new_rules=new_rules)
    tested = _testable(config, alias, gate, production, first=first)
    prompt, docs = _stated(candidate)
    found = tasks(list(dict.fromkeys(rule.task for rule in tested.rules)))
    of_documents = frozenset(name for name, task in found.items() if asks(task, "index"))
    if docs and production is not None and not production.docs:
        tested = _comparing_no_documents(tested, of_documents)
    _check_documents(tested, of_documents, docs, gate, production)
    if prompt != ("" if production is None else production.prompt_part):
        _check_prompt(tested, found, gate, production)
    if results is not None:
        made(results)
    return PromotionPlan(
        alias, candidate, production, config, tested, found, of_documents, results, at_once
    )


def check_as_served(path: Path) -> None:
    """`InputError` where the task file at ``path`` evaluates something that no alias can serve: an
    agent, or answers that are made otherwise than `lmstack up` makes them."""
    found = system_in(path) if path.suffix in (".yaml", ".yml") else None
    if found is None:
        return
    kind, settings = found
    if kind == "agent":
        raise InputError(
            f"{path} is a task for an agent, and an alias serves a model and documents",
            hint="lmstack eval run and lmstack eval gate decide between agents",
            param="task",
        )
    other = sorted(settings.keys() - {"docs", "path"})
    if other:
        raise InputError(
            f"{path} says {other[0]} of the index, and `lmstack up` serves documents without that",
            hint="leave it out: a release is evaluated as it is served",
            param="task",
        )


def _production(alias: str, config: GateConfig, gate: Path, *, new_rules: bool) -> Release | None:
    """What the alias stands for, if it passed the same gate."""
    from lmstack.registry.aliases import Aliases
    from lmstack.registry.signing import sha256_of

    aliases = Aliases()
    aliases.check_name(alias)
    known = aliases.read(alias) if aliases.has(alias) else None
    production = None if known is None else known.release
    if known is not None and production is not None:
        before = known.verdict_of(production).rules_digest
        if before != sha256_of(config.to_json()) and not new_rules:
            raise InputError(
                f"{gate} is not the gate by which {production.short} became {alias}",
                hint="use that one, or say --new-rules if it is to be another from now on",
                param="gate",
            )
    return production


def _testable(
    config: GateConfig, alias: str, gate: Path, production: Release | None, *, first: bool
) -> GateConfig:
    """``config``, or of the first release of an alias its rules that compare with nothing."""
    if production is not None:
        if first:
            raise InputError(
                f"{alias} stands for {production.short} already",
                hint="leave --first out: the candidate is compared with that",
                param="first",
            )
        return config
    if not first:
        raise InputError(
            f"{alias} stands for nothing yet, so that there is nothing to compare with",
            hint="say --first: then only rules with a threshold are tested, and the verdict says"
            " so",
            param="first",
        )
    alone = tuple(rule for rule in config.rules if rule.kind == "at_least")
    if not alone:
        raise InputError(
            f"{gate} has no rule that is at_least, so that nothing could be tested of a first"
            " release",
            hint="declare what a first release must reach, by a rule with a threshold",
            param="gate",
        )
    return config.replace(rules=alone)


def _stated(candidate: Candidate) -> tuple[str, str]:
    """What the digest of the candidate will say of its system prompt, and its folder of documents;
    "" without."""
    release = releases.released(candidate.model)
    if release is not None:
        given = {name: value for name, value in vars(candidate).items() if name != "model"}
        releases.check_options(candidate.model, release, **given)
        released_documents.check_kept(release)
        return release.prompt_part, release.docs
    docs = "" if candidate.docs is None else str(candidate.docs)
    if candidate.prompt is None:
        return "", docs
    from lmstack.serve.prompted import prompt_part

    return prompt_part(releases.read_prompt(candidate.prompt)), docs


def _comparing_no_documents(tested: GateConfig, of_documents: frozenset[str]) -> GateConfig:
    """Without the rules that compare answers from documents with those of a release that has none;
    where no rule is left of them, nothing is left out, and the check that follows says so."""

    def can_be(rule: GateRule) -> bool:
        return rule.kind == "at_least" or rule.task not in of_documents

    left = tuple(filter(can_be, tested.rules))
    return tested.replace(rules=left) if left else tested


def _check_documents(
    tested: GateConfig,
    of_documents: frozenset[str],
    docs: str,
    gate: Path,
    production: Release | None,
) -> None:
    """`InputError` unless documents are asked where there are some, and only there."""
    if of_documents and not docs:
        raise InputError(
            f"{gate} has a rule for {min(of_documents)}, which asks documents, and the candidate"
            " has none",
            hint="--docs FOLDER says which it is to answer from",
            param="docs",
        )
    compared = production is not None and bool(production.docs)
    seen = [
        rule
        for rule in tested.rules
        if rule.task in of_documents and (compared or rule.kind == "at_least")
    ]
    if docs and not seen:
        what = "no rule" if compared else "no rule that is at_least"
        raise InputError(
            f"the release is to answer from {docs}, and {gate} has {what} for a task that asks"
            " documents: nothing would show that an index is wrong or stale",
            hint=f"add one, {_example(_QUESTIONS, compared)}, and give the task's file:"
            f" --task questions.yaml{_new_rules(production)}",
            param="gate",
        )


def _check_prompt(
    tested: GateConfig, tasks: Mapping[str, Task], gate: Path, production: Release | None
) -> None:
    """`InputError` where no answer is generated with the system prompt."""
    names = dict.fromkeys(rule.task for rule in tested.rules)
    if any(asks(tasks[name], "conversation") for name in names):
        return
    what = "there is a system prompt"
    if production is not None:
        what = "the system prompt is not production's"
    raise InputError(
        f"{what}, and no rule of {gate} would show what it does: likelihoods, raw prompts and"
        " answers from documents are taken without it",
        hint="add a rule on a task that generates answers to chats,"
        f" {_example(_CHATS, production is not None)}{_new_rules(production)}",
        param="gate",
    )


def _example(rule: str, compares: bool) -> str:
    kind = "kind: non-inferior, margin: 0.03" if compares else "kind: at_least, threshold: 0.2"
    return f"such as {rule % kind}"


def _new_rules(production: Release | None) -> str:
    return "" if production is None else "; --new-rules says that the gate is to be another"
