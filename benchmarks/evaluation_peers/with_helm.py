"""Texts as HELM's own code perturbs them.

    python with_helm.py FOLDER JOB.json DIALECT.json

FOLDER holds the files of crfm-helm's `benchmark/augmentations` and `common/general.py`. What they
import of the rest of HELM, none of which a text needs, is stood in for here, so that HELM need not
be installed. The job is a list of (id, text), the last file the words of a dialect; prints JSON: by
perturbation, the texts.
"""

from __future__ import annotations

import ast
import json
import pathlib
import sys
import types
from random import Random
from typing import Any


def stand_in(name: str, **names: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module


def match_case_of(root: pathlib.Path) -> Any:
    """The one function of `helm.common.general` that is needed, without what that imports."""
    source = (root / "helm/common/general.py").read_text()
    body = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "match_case"
    ]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), "general.py", "exec"), names)
    return names["match_case"]


def main() -> None:
    root, job = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    for name in ("helm", "helm.benchmark", "helm.common", "helm.benchmark.scenarios"):
        stand_in(name, __path__=[str(root / name.replace(".", "/"))])
    stand_in("helm.common.general", match_case=match_case_of(root), ensure_file_downloaded=None)
    kinds = ("Input", "Instance", "Reference", "Output")
    stand_in("helm.benchmark.scenarios.scenario", **dict.fromkeys(kinds, object))
    stand_in("helm.common.object_spec", ObjectSpec=object, create_object=None)
    stand_in("helm.benchmark.runner", get_benchmark_output_path=lambda: str(root))
    from helm.benchmark.augmentations.contraction_expansion_perturbation import (
        ContractionPerturbation,
    )
    from helm.benchmark.augmentations.dialect_perturbation import DialectPerturbation
    from helm.benchmark.augmentations.gender_perturbation import GenderPerturbation
    from helm.benchmark.augmentations.mild_mix_perturbation import MildMixPerturbation
    from helm.benchmark.augmentations.misspelling_perturbation import MisspellingPerturbation
    from helm.benchmark.augmentations.typos_perturbation import TyposPerturbation

    perturbations = {
        "contractions": ContractionPerturbation(),
        "misspellings": MisspellingPerturbation(0.1),
        "mild_mix": MildMixPerturbation(),
        "gender_pronouns": GenderPerturbation("pronouns", 1.0, "male", "female"),
        "typos": TyposPerturbation(0.1),
        "dialect": DialectPerturbation(1.0, "SAE", "AAVE", sys.argv[3]),
    }
    found = {
        name: [perturbation.perturb(text, Random(key)) for key, text in job]
        for name, perturbation in perturbations.items()
    }
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
