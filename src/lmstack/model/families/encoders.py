"""What the encoder families share: settings, heads and the tables of tensors that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lmstack.model.config import TransformerConfig
from lmstack.model.families.family import AS_BODY, NO_ROPE, SPAN, TOKEN, Family
from lmstack.model.families.settings import SIZES, ConfigKey, Settings
from lmstack.model.formats.layouts import Table, TensorPart

__all__ = ["ENCODER", "OLD_NORMS", "POST_NORM", "encoder_family", "encoder_heads", "encoder_table"]

# The post-norm block of 2017 with all its biases, as BERT uses it.
POST_NORM: Mapping[str, Any] = {
    "norm": "ln",
    "norm_place": "post",
    "embedding_norm": True,
    "positions": "learned",
    "causal": False,
    "kinds": NO_ROPE,
    "qkv_bias": True,
    "out_bias": True,
    "mlp": "plain",
    "mlp_bias": True,
}
# BERT's keys.
ENCODER: Settings = {
    **SIZES,
    "max_positions": ConfigKey.count("max_position_embeddings", default=512),
    "norm_eps": ConfigKey.number("layer_norm_eps", default=1e-12),
    "activation": ConfigKey.activation("hidden_act", "gelu"),
    "tie_embeddings": ConfigKey.flag("tie_word_embeddings", True),
}
_REFUSED: Mapping[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
# Of checkpoints that came from TensorFlow.
OLD_NORMS = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_CLASSIFIERS: Mapping[str, Table] = {
    "token": {"classifier": "classifier"},
    "span": {"classifier": "qa_outputs"},
}


def encoder_heads(
    stem: str, *, lm: str | None = AS_BODY, pool: str | None = None, sequence: str | None = None
) -> dict[str, Mapping[str, Any]]:
    """The architectures of an encoder family. ``lm``, ``pool`` and ``sequence``: the activation of
    the dense layer before a head, None where there is none; a bare model with one pools."""
    base = {"head": "none"} if pool is None else {"head": "pool", "transform": pool}
    masked = {"head": "lm", "transform": lm, "transform_norm": True, "head_bias": True}
    return {
        f"{stem}Model": base,
        f"{stem}ForMaskedLM": masked,
        f"{stem}ForSequenceClassification": {"head": "sequence", "transform": sequence},
        f"{stem}ForTokenClassification": {**TOKEN, "transform": None},
        f"{stem}ForQuestionAnswering": SPAN,
    }


def encoder_table(
    body: Table, heads: Mapping[str, Table], bias: tuple[str, ...] = ()
) -> Callable[[TransformerConfig], Table]:
    """The tensors of an encoder: its body, and those of the head that a config has. The plain
    classifiers are named alike everywhere. ``bias``: of the output layer, and its copy: a model
    that ties has one under two names, one that does not uses the second and keeps the first."""

    def table(config: TransformerConfig) -> Table:
        found = {**body, **_CLASSIFIERS.get(config.head, {}), **heads.get(config.head, {})}
        if bias and config.head == "lm":
            copies = () if config.tie_embeddings else bias[1:]
            found["head_bias.bias"] = TensorPart(bias[0], copies=copies)
        return found

    return table


def encoder_family(
    model_type: str,
    heads: Mapping[str, Mapping[str, Any]],
    prefix: str,
    body: Table,
    head_tensors: Mapping[str, Table],
    *,
    bias: tuple[str, ...] = (),
    ignored: Iterable[str] = (),
    settings: Settings = ENCODER,
    fixed: Mapping[str, Any] = POST_NORM,
    refused: Mapping[str, Any] | None = None,
    tensors: Callable[[TransformerConfig], Table] | None = None,
    **more: Any,
) -> Family:
    """A post-norm encoder. ``ignored``: modules of its files beside those of the pooler and the
    masked words, which a model without that head passes over. ``bias``: see `encoder_table`, which
    makes the table unless ``tensors`` is given."""
    idle = [str(name) for head in ("pool", "lm") for name in head_tensors.get(head, {}).values()]
    return Family(
        model_type=model_type,
        heads=heads,
        prefix=prefix,
        tensors=tensors or encoder_table(body, head_tensors, bias),
        settings=settings,
        fixed=fixed,
        refused={**_REFUSED, **(refused or {})},
        ignored=(
            "embeddings.position_ids",
            *bias,
            *(f"{name}.{kind}" for name in (*idle, *ignored) for kind in ("weight", "bias")),
        ),
        optional_head=any(sets["head"] == "pool" for sets in heads.values()),
        alternatives={"head_bias.bias": bias[1]} if bias else {},
        **more,
    )
