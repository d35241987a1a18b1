"""What lm-evaluation-harness asks and scores, of tasks whose data are local files.

    python with_lm_eval.py JOB.json

The job is a list of {"task", "files": split to path of a JSON file, "overrides": configuration,
"chat": "", "single" or "turns": whether a chat template is applied, and shots are turns then}.
Log-likelihoods are made of a hash of context and continuation, and generated texts are those of the
job ("replies", one a sample), so that both sides score the same. Prints JSON, a task a value: for
each sample what is asked, and the metrics of the harness for it; and under "windows" how it cuts
long texts.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import tempfile
from typing import Any

from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window


def logprob_of(context: str, continuation: str) -> float:
    """Between -20 and 0. The same function is in tests/evals/benchmarks/models.py."""
    found = hashlib.sha256(f"{context}\0{continuation}".encode()).digest()
    return -20 * int.from_bytes(found[:6], "big") / 2**48


def rendered_turns(chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A chat template. The same function is in tests/evals/tasks.py."""
    turns = "".join(f"<{m['role']}>{m['content']}</{m['role']}>" for m in chat_history)
    return turns + "<assistant>" * add_generation_prompt


def windows() -> list[dict[str, Any]]:
    """Of texts whose tokens are 1, 2, 3 and so on, after the prefix token 0."""
    sizes = [(n, length) for n in range(0, 60, 7) for length in (1, 2, 3, 8, 13)]
    found = []
    for num, length in sizes:
        for context in {1, (length + 1) // 2, length}:
            cut = get_rolling_token_windows(list(range(1, num + 1)), 0, length, context)
            pairs = [list(map(list, make_disjoint_window(each))) for each in cut]
            found.append({"num": num, "length": length, "context": context, "pairs": pairs})
    return found


def made(job: dict[str, Any], manager: Any, cache: str) -> Any:
    """The task with the configuration of the harness, but for where its data are."""
    config = {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": job["files"], "cache_dir": cache},
        **job.get("overrides", {}),
    }
    entry = manager._index[job["task"]]
    return manager._factory.build(entry, overrides=config, registry=manager._index)


def asked(job: dict[str, Any], task: Any) -> dict[str, Any]:
    task.set_fewshot_seed(1234)
    chat = job.get("chat", "")
    task.build_all_requests(
        limit=None,
        rank=0,
        world_size=1,
        apply_chat_template=bool(chat),
        fewshot_as_multiturn=chat == "turns",
        chat_template=rendered_turns if chat else None,
    )
    by_sample: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_sample.setdefault(instance.doc_id, []).append(instance)
        if task.OUTPUT_TYPE == "generate_until":
            instance.resps.append(job["replies"][instance.doc_id])
        else:
            instance.resps.append((logprob_of(*instance.args), False))
    task.apply_filters()
    documents = list(task.eval_docs)
    rows = []
    for number, instances in sorted(by_sample.items()):
        instances.sort(key=lambda instance: instance.idx)
        scores = {}
        for name in instances[0].filtered_resps:
            found = [instance.filtered_resps[name] for instance in instances]
            metrics = task.process_results(documents[number], found)
            scores[name] = {
                key: float(value[0] if isinstance(value, list) else value)
                for key, value in metrics.items()
                if isinstance(value, (int, float)) or hasattr(value, "item")
            }
        rows.append({"asked": [list(each.args) for each in instances], "scores": scores})
    return {"rows": rows, "config": {"generation": task.config.generation_kwargs}}


def main() -> None:
    jobs = json.loads(pathlib.Path(sys.argv[1]).read_text())
    manager = TaskManager()
    found: dict[str, Any] = {"windows": windows()}
    with tempfile.TemporaryDirectory() as cache:
        for job in jobs:
            found[job.get("name", job["task"])] = asked(job, made(job, manager, cache))
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
