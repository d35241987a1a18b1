"""`lmstack data best-of`: the best of several answers to each prompt, as rows to train on."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import ModelName, Weights, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, count
from lmstack.core import InputError, close_model
from lmstack.train.data.rows import BadRow, Row, Rows, find_data

if TYPE_CHECKING:
    from lmstack.core import ChatModel
    from lmstack.pipelines.best_of import BestOfConfig, DrawnAnswers
    from lmstack.train.data.journal import Journal
    from lmstack.train.rollouts.protocol import WeightedReward

__all__ = ["best_of"]


@command(
    "data best-of",
    """
    PROMPTS: Rows with a column prompt, text or messages.
    --reward NAME: What answers are worth: a reward model, a Python file, or a reward of a recipe,
        such as arithmetic; repeat it to add them up.
    --output, -o FILE: JSON Lines.
    --samples N 2..1024: Drawn for each prompt.
    --keep N 1..1024: Of these, the best.
    --least X: Keep no answer with a lower reward.
    --pairs: Write the best and the worst answer, as a preference.
    --max-tokens N 1..: Of an answer.
    --temperature T 0.01..2:
    --seed N 0..: Of all drawing.

    lmstack data best-of prompts.jsonl --reward my-reward
    lmstack data best-of sums.jsonl --reward arithmetic --least 1 --output right.jsonl
    """,
)
def best_of(
    out: Output,
    prompts: Path,
    reward: list[str],
    output: Path = Path("best.jsonl"),
    samples: int = 8,
    keep: int = 1,
    least: float | None = None,
    pairs: bool = False,
    max_tokens: int = 512,
    temperature: float = 1.0,
    seed: int = 0,
    model: ModelName = None,
    weights: Weights = None,
) -> None:
    """Draw several answers to each prompt, and keep the best to train on.

    The rows are those of `lmstack train recipes/sft-lora.yaml data=FILE`, each with its reward and
    those of the answers beside it; with --pairs those of recipes/reward.yaml. An answer that was
    cut after --max-tokens is never kept.

    Stopped, it goes on where it was when it is started again."""
    from lmstack.pipelines.best_of import BestOfConfig

    config = BestOfConfig(samples, keep, least, pairs, max_tokens, temperature, seed)
    wiring.require_models(model, None, weights)
    say_if_remote(out, model)
    _say(out, output, config, _draw(out, prompts, output, reward, config, (model, weights)))


def _draw(
    out: Output,
    prompts: Path,
    output: Path,
    rewards: Sequence[str],
    config: BestOfConfig,
    wanted: tuple[str | None, Any],
) -> list[DrawnAnswers]:
    """Draw, and write ``output``, with progress."""
    from lmstack.app.wiring.training import rewards_named
    from lmstack.pipelines.best_of import DrawnAnswers, rows_of
    from lmstack.train.data.fingerprint import data_files, fingerprint
    from lmstack.train.data.journal import Journal

    if output.exists() and not output.with_name(output.name + ".unfinished").exists():
        raise InputError(
            f"{output} is there already", hint="another --output, or delete it", param="output"
        )
    files = find_data([prompts])
    judges, digests = rewards_named(rewards)
    rows = _rows(out, files, judges)
    writer = wiring.lazy_generator(*wanted)
    settings = {
        "prompts": fingerprint(data_files(files)),
        "model": writer.info.digest or writer.info.name,
        "rewards": digests,
        **vars(config),
    }
    hint = "give those again, another --output, or delete it"
    with contextlib.ExitStack() as stack:
        stack.callback(close_model, writer)
        journal = stack.enter_context(Journal(output, settings, hint=hint, param="output"))
        out.interrupted = (f"what was drawn so far is in {journal.unfinished}", out.again())
        asyncio.run(_ask(out, writer, judges, config, journal, rows))
        keys = sorted(journal.items, key=int)
        asked = [DrawnAnswers.from_json(key, journal.items[key]) for key in keys]
        journal.finish(row for each in asked for row in rows_of(each, config))
        out.interrupted = None
    return asked


def _rows(
    out: Output, files: Sequence[Path], rewards: Sequence[WeightedReward]
) -> list[tuple[str, Row]]:
    """Prompts by their number; those that cannot be used are named."""
    from lmstack.train.data.formats import prompt_of
    from lmstack.train.rewards import RewardFunction

    found, bad = [], []
    for number, row in enumerate(Rows(files)):
        if isinstance(row, BadRow):
            bad.append(f"{row.place}: {row.reason}")
            continue
        try:
            prompt_of(row)
            for each in rewards:
                if isinstance(each.reward, RewardFunction):
                    each.reward.check_row(row.values)
        except InputError as error:
            bad.append(f"{row.place}: {error.message}")
            continue
        found.append((str(number), row))
    for reason in bad[:5]:
        out.note(f"left out {reason}")
    if len(bad) > 5:
        out.note(f"left out {len(bad):,} rows in all")
    if not found:
        raise InputError(
            "there is no prompt" + (f" ({bad[0]})" if bad else ""),
            hint='{"prompt": "..."} on each line',
            param="prompts",
        )
    return found


async def _ask(
    out: Output,
    model: ChatModel,
    rewards: Sequence[WeightedReward],
    config: BestOfConfig,
    journal: Journal,
    rows: Sequence[tuple[str, Row]],
) -> None:
    from lmstack.pipelines.best_of import BestOfN

    left = [(key, row) for key, row in rows if key not in journal]
    with out.progress("Drawing", "prompts") as bar:
        done = len(rows) - len(left)
        bar.update(done, len(rows))
        async for asked in BestOfN(model, rewards, config).ask(left):
            journal.add(asked.key, asked.to_json())
            done += 1
            bar.update(done, len(rows))


def _say(out: Output, output: Path, config: BestOfConfig, asked: Sequence[DrawnAnswers]) -> None:
    from lmstack.pipelines.best_of import rows_of

    rows = [row for each in asked for row in rows_of(each, config)]
    mean = statistics.fmean(reward for each in asked for reward in each.rewards)
    best = statistics.fmean(max(each.rewards) for each in asked)
    cut = sum(not whole for each in asked for whole in each.ended)
    figures: Mapping[str, Any] = {
        **{"prompts": len(asked), "answers": len(asked) * config.samples, "cut": cut},
        **{"rows": len(rows), "reward": mean, "best_reward": best},
        "divergence": config.divergence,
    }
    if out.as_json:
        out.result({"file": str(output), **figures})
        return
    table = [
        ("rows", f"{len(rows):,} from {count(len(asked), 'prompts')}, in {output}"),
        ("answers", f"{figures['answers']:,}, of which {cut:,} were cut after --max-tokens"),
        ("reward", f"{mean:.4f} on average, {best:.4f} of the best of {config.samples}"),
    ]
    if config.keep == 1 and not config.pairs:
        table.append(("KL", f"at most {config.divergence:.2f} nats from the model that draws"))
    out.lines(columns(table))
