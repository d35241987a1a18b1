"""Model families as Hugging Face writes them: config.json to our config and back, and the names
of tensors.

A `Family` is data and two small functions between plain mappings. Nothing downstream sees it:
what it yields is the fields of a `TransformerConfig` and tensors under our names. Covered:
LLaMA (1 to 3, SmolLM2), Mistral without a window, Qwen2, BERT. A feature of a family that the
config cannot express is refused by name, never ignored.

Missing settings take the defaults of the config classes of transformers 5, because older files
leave out values equal to them. Sizes are never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.model.fields import Fields
from lmstack.model.positions import RopeSpec

__all__ = ["FAMILIES", "Family", "family_of", "read_config", "writings"]

_ACTIVATIONS: dict[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}


@dataclass(frozen=True)
class Family:
    """``heads``: architecture name to our head, the first one assumed where none is given.

    ``tensors``: our module path to the names of theirs, several where ours is their
    concatenation by rows; ``{i}`` is the layer. ``prefix`` stands before all names but those of
    heads in files of models with a head. ``optional_head``: tensors of the head may be missing.
    """

    model_type: str
    heads: Mapping[str, str]
    prefix: str
    tensors: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    read: Callable[[Fields], dict[str, Any]]
    write: Callable[[Mapping[str, Any]], dict[str, Any]]
    optional_head: bool = False


_LLAMA_TENSORS = {
    "embed": ("model.embed_tokens",),
    "blocks.{i}.attention_norm": ("model.layers.{i}.input_layernorm",),
    "blocks.{i}.attention.qkv": (
        "model.layers.{i}.self_attn.q_proj",
        "model.layers.{i}.self_attn.k_proj",
        "model.layers.{i}.self_attn.v_proj",
    ),
    "blocks.{i}.attention.out": ("model.layers.{i}.self_attn.o_proj",),
    "blocks.{i}.mlp_norm": ("model.layers.{i}.post_attention_layernorm",),
    "blocks.{i}.mlp.up": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.up_proj"),
    "blocks.{i}.mlp.down": ("model.layers.{i}.mlp.down_proj",),
    "final_norm": ("model.norm",),
    "head": ("lm_head",),
}
_BERT_TENSORS = {
    "embed": ("bert.embeddings.word_embeddings",),
    "embed_positions": ("bert.embeddings.position_embeddings",),
    "embed_types": ("bert.embeddings.token_type_embeddings",),
    "embed_norm": ("bert.embeddings.LayerNorm",),
    "blocks.{i}.attention.qkv": (
        "bert.encoder.layer.{i}.attention.self.query",
        "bert.encoder.layer.{i}.attention.self.key",
        "bert.encoder.layer.{i}.attention.self.value",
    ),
    "blocks.{i}.attention.out": ("bert.encoder.layer.{i}.attention.output.dense",),
    "blocks.{i}.attention_norm": ("bert.encoder.layer.{i}.attention.output.LayerNorm",),
    "blocks.{i}.mlp.up": ("bert.encoder.layer.{i}.intermediate.dense",),
    "blocks.{i}.mlp.down": ("bert.encoder.layer.{i}.output.dense",),
    "blocks.{i}.mlp_norm": ("bert.encoder.layer.{i}.output.LayerNorm",),
    "pooler": ("bert.pooler.dense",),
}


def _activation(fields: Fields, default: str) -> str:
    name = fields.text("hidden_act", default)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{fields.source}: activation {shown(name)} is not implemented",
            hint=f"implemented: {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def _rope(fields: Fields) -> RopeSpec:
    """Both spellings: ``rope_parameters`` (transformers 5), ``rope_theta`` + ``rope_scaling``."""
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling") or Fields({}, "rope")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "linear", "llama3"):
        raise UnsupportedError(
            f"{fields.source}: rope scaling {shown(kind)} is not implemented",
            hint="implemented: default, linear, llama3",
        )
    for source in (rope, fields):
        if source.number("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedError(f"{fields.source}: partial rotary embeddings")
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    if kind == "default":
        return RopeSpec(theta=theta)
    factor = rope.number("factor")
    if kind == "linear":
        return RopeSpec(theta=theta, scaling="linear", factor=factor)
    return RopeSpec(
        theta=theta,
        scaling="llama3",
        factor=factor,
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_positions=rope.count("original_max_position_embeddings"),
    )


def _write_rope(rope: RopeSpec) -> dict[str, Any]:
    parameters: dict[str, Any] = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.scaling != "default":
        parameters["factor"] = rope.factor
    if rope.scaling == "llama3":
        parameters["low_freq_factor"] = rope.low_freq_factor
        parameters["high_freq_factor"] = rope.high_freq_factor
        parameters["original_max_position_embeddings"] = rope.original_positions
    return parameters


def _read_decoder(fields: Fields) -> dict[str, Any]:
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": fields.count("num_key_value_heads", heads),
        "head_dim": fields.count("head_dim", width // heads if heads else 0),
        "max_positions": fields.count("max_position_embeddings"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "rope": _rope(fields),
        "activation": _activation(fields, "silu"),
        "tie_embeddings": fields.flag("tie_word_embeddings", False),
    }


def _read_llama(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    mlp_bias = fields.flag("mlp_bias", False)
    return _read_decoder(fields) | {"qkv_bias": bias, "out_bias": bias, "mlp_bias": mlp_bias}


def _read_mistral(fields: Fields) -> dict[str, Any]:
    values = _read_decoder(fields)
    # An absent key means transformers' default of 4096; null switches the window off.
    raw = fields.get("sliding_window")
    window = raw if raw is not None or "sliding_window" in fields else 4096
    if window is not None and window < values["max_positions"]:
        raise UnsupportedError(f"{fields.source}: sliding window attention of {shown(window)}")
    return values


def _read_qwen2(fields: Fields) -> dict[str, Any]:
    if fields.flag("use_sliding_window", False):
        raise UnsupportedError(f"{fields.source}: sliding window attention")
    return _read_decoder(fields) | {"qkv_bias": True}


def _write_decoder(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "num_key_value_heads": config["num_kv_heads"],
        "head_dim": config["head_dim"],
        "max_position_embeddings": config["max_positions"],
        "rms_norm_eps": config["norm_eps"],
        "rope_parameters": _write_rope(config["rope"] or RopeSpec()),
        "hidden_act": _ACTIVATION_NAMES[config["activation"]],
        "tie_word_embeddings": config["tie_embeddings"],
    }


def _write_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    return _write_decoder(config) | {
        "attention_bias": config["out_bias"],
        "mlp_bias": config["mlp_bias"],
    }


def _read_bert(fields: Fields) -> dict[str, Any]:
    kind = fields.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise UnsupportedError(f"{fields.source}: position_embedding_type {shown(kind)}")
    for key in ("is_decoder", "add_cross_attention"):
        if fields.flag(key, False):
            raise UnsupportedError(f"{fields.source}: a BERT with {key}")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    return {
        "vocab_size": fields.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": fields.count("intermediate_size"),
        "num_layers": fields.count("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads if heads else 0,
        "max_positions": fields.count("max_position_embeddings", 512),
        "norm": "ln",
        "norm_place": "post",
        "norm_eps": fields.number("layer_norm_eps", 1e-12),
        "embedding_norm": True,
        "causal": False,
        "rope": None,
        "learned_positions": True,
        "token_types": fields.count("type_vocab_size", 2),
        "qkv_bias": True,
        "out_bias": True,
        "mlp": "plain",
        "activation": _activation(fields, "gelu"),
        "mlp_bias": True,
    }


def _write_bert(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "max_position_embeddings": config["max_positions"],
        "layer_norm_eps": config["norm_eps"],
        "type_vocab_size": config["token_types"],
        "hidden_act": _ACTIVATION_NAMES[config["activation"]],
        "position_embedding_type": "absolute",
    }


def _decoder_family(
    model_type: str,
    stem: str,
    read: Callable[[Fields], dict[str, Any]],
    write: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Family:
    return Family(
        model_type=model_type,
        heads={f"{stem}ForCausalLM": "lm", f"{stem}Model": "none"},
        prefix="model.",
        tensors=_LLAMA_TENSORS,
        ignored=("rotary_emb.inv_freq",),
        read=read,
        write=write,
    )


# In the order in which a family is looked for that can write a config.
FAMILIES = (
    _decoder_family("llama", "Llama", _read_llama, _write_llama),
    _decoder_family("qwen2", "Qwen2", _read_qwen2, _write_decoder),
    _decoder_family("mistral", "Mistral", _read_mistral, _write_decoder),
    Family(
        model_type="bert",
        heads={"BertModel": "pool"},
        prefix="bert.",
        tensors=_BERT_TENSORS,
        ignored=("embeddings.position_ids",),
        read=_read_bert,
        write=_write_bert,
        optional_head=True,
    ),
)


def family_of(values: Mapping[str, Any], source: str = "config.json") -> Family:
    """The family of a parsed config.json; `UnsupportedError` names what is not known."""
    model_type = Fields(values, source).text("model_type")
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(f.model_type for f in FAMILIES)
    raise UnsupportedError(
        f"{source}: model type {shown(model_type)} is not implemented",
        hint=f"implemented: {known}",
    )


def _head(family: Family, fields: Fields) -> str:
    names = fields.get("architectures") or [next(iter(family.heads))]
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise FormatError(f"{fields.source}: architectures is {shown(names)}, not a list of names")
    if names[0] not in family.heads:
        raise UnsupportedError(
            f"{fields.source}: architecture {shown(names[0])} is not implemented",
            hint=f"implemented for this type: {', '.join(family.heads)}",
        )
    return family.heads[names[0]]


def read_config(values: Mapping[str, Any], source: str = "config.json") -> dict[str, Any]:
    """The fields of a `TransformerConfig` from a parsed config.json.

    Raises `FormatError` where it is damaged, `UnsupportedError` where it asks for what is not
    implemented.
    """
    family, fields = family_of(values, source), Fields(values, source)
    if fields.get("quantization_config") is not None:
        raise UnsupportedError(
            f"{source}: weights quantized by another library",
            hint="use the unquantized model or a GGUF file",
        )
    read = family.read(fields) | {"head": _head(family, fields)}
    if read["head"] != "lm":
        read["tie_embeddings"] = False
    return read


def writings(config: Mapping[str, Any]) -> Iterator[tuple[Family, dict[str, Any]]]:
    """Each family that might write a config of these fields, with its config.json.

    Families write what they have words for; whether that is all of ``config`` shows when it is
    read back.
    """
    for family in FAMILIES:
        for architecture, head in family.heads.items():
            if config["head"] in (head, "none" if family.optional_head else head):
                names = {"architectures": [architecture], "model_type": family.model_type}
                yield family, names | family.write(config)
