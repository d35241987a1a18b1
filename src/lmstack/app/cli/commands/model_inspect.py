"""`lmstack model inspect`: what a model is made of, without loading its weights, and the group of
the commands that look into a model while it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands._options import ModelOnDisk
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size

if TYPE_CHECKING:
    from lmstack.app.inspect.inspection import Inspection

__all__ = ["inspect_model"]


group(
    "model inspect",
    "model attention tokens",
    """
    Look into a model: its parts, its attention, what it expects.

    `lmstack model inspect MODEL` shows what the model is made of; the other commands show what
    happens in it while it reads a text.

    lmstack model inspect smollm2-135m-instruct
    lmstack model inspect attention smollm2-135m-instruct "The fox sees the dog." -o fox.png
    lmstack model inspect tokens smollm2-135m-instruct "The capital of France is"
    """,
    usual="model",
)


@command(
    "model inspect model",
    """
    lmstack model inspect smollm2-135m-instruct
    lmstack model inspect ./model.gguf --json
    """,
)
def inspect_model(out: Output, model: ModelOnDisk) -> None:
    """Show a model's card, layers, parameters by part, memory and lineage.

    Counts come from the model's own class built without memory, so a model that is far too
    large for this machine can be inspected too. Of a model that lmstack trained, and of an
    adapter's folder, the lineage is shown: data, recipe, code and metrics, and its base's own.
    """
    adapter = wiring.adapter_facts(model)
    if adapter is not None:
        _show_adapter(out, adapter)
        return
    card, found = wiring.inspect(model)
    if out.as_json:
        out.result({**card, **found.to_json()})
        return
    training = card.pop("training", None)
    evaluated = _result_rows(card)
    for title, rows in (
        ("Card", _card_rows(card)),
        ("Layers", _layer_rows(found.config)),
        ("Parameters", _parameter_rows(found)),
        ("Memory", _memory_rows(found)),
    ):
        out.line(out.style(title, "bold"))
        out.lines(columns(rows, indent=2))
        out.line()
    if evaluated:
        out.line(out.style("Results", "bold"))
        out.lines(columns(evaluated, indent=2))
        out.line()
    if training is not None:
        _show_lineage(out, training)


def _result_rows(card: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of evaluations, which are taken out of ``card``: they would fill a line of it."""
    from lmstack.evals.model_results import TASKS, results_in

    found = results_in(card["evaluation"])
    card["evaluation"] = {k: v for k, v in card["evaluation"].items() if k != TASKS}
    return [
        tuple(
            printable(cell, one_line=True)
            for cell in (
                f"{each.task} v{each.version}",
                each.metric,
                each.figure,
                each.interval and f"({each.interval})",
                each.counted,
                each.form,
                each.date[:10],
            )
        )
        for each in found
    ]


def _show_adapter(out: Output, facts: dict[str, Any]) -> None:
    if out.as_json:
        out.result(facts)
        return
    rows = [("folder", printable(facts["adapter"], one_line=True))]
    rows += [(k, printable(str(v), one_line=True)) for k, v in facts["settings"].items()]
    out.line(out.style("Adapter", "bold"))
    out.lines(columns([*rows, ("size on disk", size(facts["size"]))], indent=2))
    out.line()
    if "training" in facts:
        _show_lineage(out, facts["training"])


def _show_lineage(out: Output, training: dict[str, Any]) -> None:
    from lmstack.app.inspect.ancestry import ancestry
    from lmstack.registry.lineage import Training

    out.line(out.style("Lineage", "bold"))
    out.lines([f"  {line}" for line in ancestry(Training.from_json(training))])
    out.line()


def _card_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [(k, v) for k, v in card.items() if k != "size" and v not in (None, "", {}, [])]
    rows = [(name, printable(str(value), one_line=True)) for name, value in shown]
    return [*rows, ("size on disk", size(card["size"]))]


def _layer_rows(config: dict[str, Any]) -> list[tuple[str, str]]:
    heads = f"{config['num_heads']} query, {config['num_kv_heads']} key/value"
    positions = _positions(config)
    return [
        ("layers", str(config["num_layers"])),
        ("width", f"{config['hidden_size']}, feed-forward {config['intermediate_size']}"),
        ("heads", f"{heads}, {config['head_dim']} channels each"),
        ("attention", "causal" if config["causal"] else "bidirectional"),
        ("positions", f"{positions}, up to {config['max_positions']} tokens"),
        ("norm", f"{config['norm']}, {config['norm_place']}-norm"),
        ("feed-forward", f"{config['mlp']}, {config['activation']}"),
        ("vocabulary", f"{config['vocab_size']} tokens"),
        ("head", config["head"] + (", tied to embeddings" if config["tie_embeddings"] else "")),
    ]


def _positions(config: dict[str, Any]) -> str:
    if any(kind["rope"] for kind in config["kinds"]):
        return "rotary"
    if config["positions"] != "none":
        return str(config["positions"]).replace("_halves", "")
    return {"alibi": "ALiBi", "t5": "relative", "deberta": "disentangled"}.get(
        config["bias"], "none"
    )


def _parameter_rows(found: Inspection) -> list[tuple[str, str, str]]:
    parts = [*found.parameters.items(), ("total", found.total)]
    width = max(len(f"{count:,}") for _, count in parts)
    return [
        (name, f"{count:>{width},}", f"{100 * count / found.total:5.1f} %") for name, count in parts
    ]


def _memory_rows(found: Inspection) -> list[tuple[str, str]]:
    rows = [(f"weights, {name}", size(count)) for name, count in found.weights_bytes.items()]
    for name, count in found.kv_bytes_per_token.items():
        if count:
            whole = size(count * found.context_length)
            rows.append((f"KV cache, {name}", f"{size(count)} a token, {whole} for a full context"))
    return rows
