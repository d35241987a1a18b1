"""The perturbations by name: what each does, and the files that it reads.

    perturbation_named("mild_mix", {"helm_contractions": path, "helm_misspellings": path})

Not covered: how a text is perturbed (`perturb`), and scoring by the worse of two (`worst_case`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmstack.core import InputError, nearest
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.packages import PACKAGES, PackagedFile
from lmstack.evals.benchmarks.perturb import (
    Perturbation,
    contractions,
    dialect,
    gender_pronouns,
    lowercase,
    mild_mix,
    misspellings,
    spaces,
    typos,
)

__all__ = ["PERTURBATIONS", "NamedPerturbation", "perturbation_named"]

Files = Mapping[str, DataFile]


@dataclass(frozen=True)
class NamedPerturbation:
    """``files``: keys of `PACKAGES`, or with ``is_brought`` of files that somebody gives."""

    name: str
    about: str
    build: Callable[[Files], Perturbation]
    files: tuple[str, ...] = ()
    is_brought: bool = False

    @property
    def packaged(self) -> dict[str, PackagedFile]:
        return {} if self.is_brought else {key: PACKAGES[key] for key in self.files}


def _mild_mix(files: Files) -> Perturbation:
    contracted = contractions(files["helm_contractions"])
    return mild_mix(contracted, misspellings(files["helm_misspellings"]))


_ALL = (
    NamedPerturbation("lowercase", "everything in lower case", lambda _: lowercase()),
    NamedPerturbation("spaces", "one to three spaces between words", lambda _: spaces()),
    NamedPerturbation(
        "contractions",
        "she is becomes she's",
        lambda files: contractions(files["helm_contractions"]),
        ("helm_contractions",),
    ),
    NamedPerturbation(
        "misspellings",
        "common misspellings, one word in ten that has some",
        lambda files: misspellings(files["helm_misspellings"]),
        ("helm_misspellings",),
    ),
    NamedPerturbation(
        "typos",
        "one letter in ten becomes its neighbour on the keyboard",
        lambda files: typos(files["helm_typos"]),
        ("helm_typos",),
    ),
    NamedPerturbation(
        "mild_mix",
        "lower case, contractions, misspellings and spaces: HELM's robustness",
        _mild_mix,
        ("helm_contractions", "helm_misspellings"),
    ),
    NamedPerturbation(
        "gender_pronouns",
        "male pronouns become female ones: a part of HELM's fairness",
        lambda files: gender_pronouns(files["helm_gender"]),
        ("helm_gender",),
    ),
    NamedPerturbation(
        "dialect",
        "words become those of a dialect, by a list that you bring: a part of HELM's fairness",
        lambda files: dialect(files["dialect"]),
        ("dialect",),
        is_brought=True,
    ),
)
PERTURBATIONS = {each.name: each for each in _ALL}


def perturbation_named(name: str, files: Files) -> Perturbation:
    """``files``: by the keys that it names. `InputError` with the nearest name where there is no
    such perturbation, or with the file that is missing."""
    if name not in PERTURBATIONS:
        guess = nearest(name, PERTURBATIONS)
        hint = f"did you mean {guess}?" if guess else f"there are {', '.join(PERTURBATIONS)}"
        raise InputError(f"there is no perturbation {name}", hint=hint, param="perturb")
    found = PERTURBATIONS[name]
    for key in found.files:
        if key not in files:
            brought = f"give it: --file {key}=PATH"
            raise InputError(
                f"the perturbation {name} needs the file {key}",
                hint=brought if found.is_brought else f"lmstack eval fetch {name}",
                param="perturb",
            )
    return found.build(files)
