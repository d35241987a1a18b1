"""Perturbations by name, and the files that each reads."""

from __future__ import annotations

import json
from random import Random

import pytest
from tests.errors import about
from tests.evals.benchmarks.test_perturb import CONTRACTIONS, GENDER, MISSPELLINGS, TYPOS

from lmstack.core import InputError
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.packages import PACKAGES
from lmstack.evals.benchmarks.perturbations import PERTURBATIONS, perturbation_named

FILES: dict[str, DataFile] = {
    "helm_contractions": CONTRACTIONS,
    "helm_misspellings": MISSPELLINGS,
    "helm_gender": GENDER,
    "helm_typos": TYPOS,
    "dialect": json.dumps({"he": ["e"]}).encode(),
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_is_built_of_its_own_files_and_changes_texts(name: str) -> None:
    named = PERTURBATIONS[name]
    found = perturbation_named(name, {key: FILES[key] for key in named.files})
    text = "Now he says that She is already available, and that all  as before. " * 99
    assert found.change(text, Random(0)) != text
    assert set(named.packaged) <= set(PACKAGES)
    assert bool(found.words) == bool(named.files)


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(
        InputError, match="no perturbation mildmix", check=about("perturb")
    ) as unknown:
        perturbation_named("mildmix", {})
    assert unknown.value.hint == "did you mean mild_mix?"
    with pytest.raises(
        InputError, match="needs the file helm_misspellings", check=about("perturb")
    ) as packaged:
        perturbation_named("mild_mix", {"helm_contractions": CONTRACTIONS})
    assert packaged.value.hint == "lmstack eval fetch mild_mix"
    with pytest.raises(
        InputError, match="needs the file dialect", check=about("perturb")
    ) as brought:
        perturbation_named("dialect", {})
    assert brought.value.hint == "give it: --file dialect=PATH"
