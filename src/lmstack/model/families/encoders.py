"""What the encoder families share: sizes, heads and labels of a config.json, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmstack.core import UnsupportedError, shown
from lmstack.model.families.family import ACTIVATION_NAMES
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Part, Table
from lmstack.model.kinds import LayerKind

__all__ = [
    "NO_ROPE",
    "OLD_NORMS",
    "POST_NORM",
    "architecture",
    "both",
    "encoder_heads",
    "encoder_table",
    "head_fields",
    "post_norm_encoder",
    "skip_padding",
    "write_encoder",
    "write_tie",
]

NO_ROPE = (LayerKind(rope=None),)
# The post-norm block of 2017 with all its biases, as BERT uses it.
POST_NORM = {
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
# Of checkpoints that came from TensorFlow.
OLD_NORMS = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_HEADS = {
    "MaskedLM": "lm",
    "SequenceClassification": "sequence",
    "TokenClassification": "token",
    "QuestionAnswering": "span",
}


_CLASSIFIERS: dict[str, Table] = {
    "token": {"classifier": "classifier"},
    "span": {"classifier": "qa_outputs"},
}


def encoder_heads(stem: str, base: str) -> dict[str, dict[str, Any]]:
    """The architectures of an encoder family; ``base`` is the head of its bare model."""
    named = {f"{stem}For{task}": {"head": head} for task, head in _HEADS.items()}
    return {f"{stem}Model": {"head": base}} | named


def both(*modules: str) -> tuple[str, ...]:
    """Weight and bias of each, to be passed over where a config has no use for them."""
    return tuple(f"{name}.{kind}" for name in modules for kind in ("weight", "bias"))


def encoder_table(
    body: Table, heads: Mapping[str, Table], bias: tuple[str, str] | None = None
) -> Callable[[Mapping[str, Any]], Table]:
    """The tensors of an encoder: its body, and those of the head that a config has. The plain
    classifiers are named alike everywhere. ``bias``: of the output layer, and its copy: a model
    that ties has one under two names, one that does not uses the second and keeps the first."""

    def table(config: Mapping[str, Any]) -> Table:
        head = config["head"]
        found = {**body, **_CLASSIFIERS.get(head, {}), **heads.get(head, {})}
        if bias is not None and head == "lm":
            copies = () if config["tie_embeddings"] else bias[1:]
            found["head_bias.bias"] = Part(bias[0], copies=copies)
        return found

    return table


def architecture(fields: Fields) -> str:
    """The class that the file was written by, or "" where it does not say."""
    names = fields.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def head_fields(
    fields: Fields, *, lm: str, pool: str | None, sequence: str | None
) -> dict[str, Any]:
    """What stands before the head that the file's architecture names: ``lm``, ``pool`` and
    ``sequence`` are the activations of its dense layer, None where there is none."""
    name = architecture(fields)
    if name.endswith(("MaskedLM", "PreTraining")):
        return {
            "transform": lm,
            "transform_norm": True,
            "head_bias": True,
            "tie_embeddings": fields.flag("tie_word_embeddings", True),
        }
    if name.endswith("SequenceClassification"):
        return {"transform": sequence}
    plain = name.endswith(("TokenClassification", "QuestionAnswering"))
    return {} if plain else {"transform": pool}


def write_tie(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the flag for tying should say: it does not matter where there is no output layer."""
    return {"tie_word_embeddings": config["tie_embeddings"] or config["head"] != "lm"}


def post_norm_encoder(fields: Fields, activation: str) -> dict[str, Any]:
    """BERT's body under BERT's keys, but for segments."""
    kind = fields.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise UnsupportedError(f"{fields.source}: position_embedding_type {shown(kind)}")
    for key in ("is_decoder", "add_cross_attention"):
        if fields.flag(key, False):
            raise UnsupportedError(f"{fields.source}: an encoder with {key}")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return POST_NORM | {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
        "max_positions": fields.count("max_position_embeddings", 512),
        "norm_eps": fields.number("layer_norm_eps", 1e-12),
        "activation": activation,
    }


def skip_padding(body: dict[str, Any], pad: int) -> dict[str, Any]:
    """Positions as RoBERTa counts them: padding stands at row ``pad`` of the table and does not
    count, so the first token stands at the next row."""
    offset = pad + 1
    return {
        "position_pad": pad,
        "position_offset": offset,
        "max_positions": body["max_positions"] - offset,
    }


def write_encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that `post_norm_encoder` and `head_fields` read."""
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"] + config["position_offset"],
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": ACTIVATION_NAMES[config["activation"]],
    } | write_tie(config)
