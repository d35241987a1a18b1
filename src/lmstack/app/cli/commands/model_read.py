"""`lmstack model inspect tokens`: what a model expects next, as a picture and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands.model_attention import ModelToRead, Target, TextToRead
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable

if TYPE_CHECKING:
    from lmstack.app.inspect.looking import Expectation, TokenCandidate

__all__ = ["tokens"]


@command(
    "model inspect tokens",
    """
    --output, -o FILE: The picture, .png or .svg. [default: tokens.png; none with --json]
    --top N 1..20: How many candidates to show.

    lmstack model inspect tokens smollm2-135m-instruct "The capital of France is Paris."
    lmstack model inspect tokens smollm2-135m-instruct "The capital of France is" --json --top 10
    """,
)
def tokens(
    out: Output,
    model: ModelToRead,
    text: TextToRead,
    output: Path | None = None,
    top: int = 5,
    target: Target = None,
) -> None:
    """Draw what a model expects after each token.

    For each token of the text: the likeliest next ones with their probabilities, the entropy of
    the whole distribution, and how much the token that comes surprises the model (both in bits).
    A masked language model is shown with each token masked in turn, an encoder-decoder with what
    its decoder reads. Needs matplotlib: pip install 'lmstack[pictures]' (not for --json alone).
    """
    from lmstack.app.inspect.looking import expectations
    from lmstack.app.inspect.token_picture import draw_expectations
    from lmstack.app.report.drawing import check_picture

    path = output if output is not None or out.as_json else Path("tokens.png")
    if path is not None:
        check_picture(path)
    loaded = wiring.model_to_inspect(model)
    found = expectations(loaded, text, target, top=top)
    in_place = not loaded.module.config.causal
    if path is not None:
        draw_expectations(path, Path(model).name, found, in_place=in_place)
    if out.as_json:
        picture = None if path is None else str(path)
        out.result({"model": model, "picture": picture, **_summary(found, in_place)})
        return
    surprises = [e.surprise for e in found if e.surprise is not None]
    if surprises:
        mean = sum(surprises) / len(surprises)
        out.line(f"{mean:.2f} bits a token on average, perplexity {2**mean:.1f}")
    out.line(f"wrote {printable(str(path), one_line=True)}")


def _summary(found: list[Expectation], in_place: bool) -> dict[str, Any]:
    surprises = [e.surprise for e in found if e.surprise is not None]
    mean = sum(surprises) / len(surprises) if surprises else None
    return {
        "distribution_of": "masked token" if in_place else "next token",
        "mean_surprise_bits": mean,
        "perplexity": None if mean is None else 2**mean,
        "tokens": [
            {
                "position": e.position,
                "text": e.text,
                "entropy_bits": e.entropy,
                "surprise_bits": e.surprise,
                "actual": None if e.actual is None else _candidate(e.actual),
                "top": [_candidate(candidate) for candidate in e.top],
            }
            for e in found
        ],
    }


def _candidate(candidate: TokenCandidate) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "text": candidate.text,
        "probability": candidate.probability,
        "rank": candidate.rank,
    }
