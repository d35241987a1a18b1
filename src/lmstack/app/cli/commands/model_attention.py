"""`lmstack model inspect attention`: who attends to whom, as a picture and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from lmstack.app import wiring
from lmstack.app.cli.command import command, option
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.app.inspect.looking import AttentionWeights

__all__ = ["ModelToRead", "Target", "TextToRead", "attention"]

ModelToRead = Annotated[
    str,
    option("MODEL: A name in the store, a model folder or a .gguf file."),
]
TextToRead = Annotated[str, option("TEXT: What the model reads.")]
Target = Annotated[
    str | None,
    option(
        "--target TEXT: Encoder-decoders: what the decoder reads. Without it, what the model "
        "writes."
    ),
]
DIGITS = 5  # of a weight in JSON


@command(
    "model inspect attention",
    """
    --output, -o FILE: The picture, .png or .svg. [default: attention.png; none with --json]
    --layer N 0..: Only this layer, from 0.
    --head N 0..: Only this head, from 0.
    --part: Encoder-decoders: encoder, decoder or cross (decoder over encoder), for the head that is
        shown large. [default: cross]

    lmstack model inspect attention smollm2-135m-instruct "The fox sees me." -o fox.png
    lmstack model inspect attention all-minilm-l6-v2 "The fox sees the dog." --layer 2 --head 5
    lmstack model inspect attention smollm2-135m-instruct "The fox" --layer 3 --head 0 --json
    """,
)
def attention(
    out: Output,
    model: ModelToRead,
    text: TextToRead,
    output: Path | None = None,
    layer: int | None = None,
    head: int | None = None,
    part: Literal["encoder", "decoder", "cross"] | None = None,
    target: Target = None,
) -> None:
    """Draw who attends to whom while a model reads.

    Every head of every layer in a grid, and one head large with its tokens: the one in which
    tokens look hardest at single other ones, or the one that --layer and --head name, which is
    then drawn alone. With --json the weights, to five digits: of all heads, or of those chosen.
    Needs matplotlib: pip install 'lmstack[pictures]' (not for --json alone).
    """
    if head is not None and layer is None:
        raise CommandLineError(
            f"--head {head} has no --layer", hint=f"--layer N --head {head}", param="layer"
        )
    from lmstack.app.inspect.looking import look
    from lmstack.app.report.drawing import check_picture

    path = output if output is not None or out.as_json else Path("attention.png")
    if path is not None:
        check_picture(path)
    parts = look(wiring.model_to_inspect(model), text, target)
    large = _chosen(parts, part)
    _check_range(large, layer, head)
    if path is not None:
        _draw(path, model, parts, large, (layer, head))
        if not out.as_json:
            out.line(f"wrote {printable(str(path), one_line=True)}")
    if out.as_json:
        shown = parts if part is None and layer is None else [large]
        out.result(
            {
                "model": model,
                "picture": None if path is None else str(path),
                "attention": [_to_json(p, layer, head) for p in shown],
            }
        )


def _draw(
    path: Path,
    model: str,
    parts: list[AttentionWeights],
    large: AttentionWeights,
    place: tuple[int | None, int | None],
) -> None:
    from lmstack.app.inspect.attention_picture import draw_attention, draw_head

    layer, head = place
    title = f"{Path(model).name}: {len(large.queries)} tokens"
    if layer is not None and head is not None:
        draw_head(path, title, large, layer, head)
    else:
        draw_attention(path, title, parts, large, *large.busiest_head(layer))


def _chosen(parts: list[AttentionWeights], name: str | None) -> AttentionWeights:
    found = next((p for p in parts if p.part == name), None)
    if name is not None and found is None:
        raise InputError(
            f"the model has no {name} attention",
            hint=f"it has: {', '.join(p.part for p in parts)}",
            param="part",
        )
    return found if found is not None else parts[-1]


def _check_range(attention: AttentionWeights, layer: int | None, head: int | None) -> None:
    layers, heads = attention.weights.shape[:2]
    for name, value, count in (("layer", layer, layers), ("head", head, heads)):
        if value is not None and value >= count:
            raise InputError(
                f"--{name} is {value}; the {attention.part} has {count} {name}s",
                hint=f"--{name} 0 to {count - 1}",
                param=name,
            )


def _to_json(attention: AttentionWeights, layer: int | None, head: int | None) -> dict[str, Any]:
    """``weights`` by layer, head, token that looks, token that is looked at; of one layer
    without the first, of one head without the second."""
    weights = attention.weights
    if layer is not None:
        weights = weights[layer]
    if head is not None:
        weights = weights[head]
    return {
        "part": attention.part,
        "layer": layer,
        "head": head,
        "tokens": attention.queries,
        "over": attention.keys,
        "weights": weights.astype(float).round(DIGITS).tolist(),
    }
