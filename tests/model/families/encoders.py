"""Cases of encoders: settings, variants and traps of each family, and its other heads."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from lmstack.model import TransformerConfig

from .cases import Case, Tensors, Trap, derived, louder, setting

_BODY = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_LABELS = {"id2label": {i: str(i) for i in range(3)}, "label2id": {str(i): i for i in range(3)}}
_ACTIVATIONS = {"relu": {"hidden_act": "relu"}, "tanh gelu": {"hidden_act": "gelu_new"}}
_UNTIED = {"untied": {"tie_word_embeddings": False}}


def _loud_mlp(model: nn.Module) -> None:
    """MLPs of which both approximations of the gelu show."""
    _untie(model)
    louder("ffn", 2.0)(model)


def _untie(model: nn.Module) -> None:
    """Where the output layer has weights of its own: embeddings so small that the epsilon of the
    norm after them matters; and the bias that such a model keeps beside the one that it uses
    gets its values, as files have it."""
    if getattr(model.config, "tie_word_embeddings", True):
        return
    for name, parameter in model.named_parameters():
        if "embeddings." in name and parameter.dim() == 2:
            parameter.mul_(1e-2)
    for module in model.modules():
        decoder = getattr(module, "decoder", None)
        if isinstance(decoder, nn.Linear) and isinstance(
            getattr(module, "bias", None), nn.Parameter
        ):
            module.bias.copy_(decoder.bias)


def _from_zero(config: TransformerConfig) -> TransformerConfig:
    """Positions counted from row 0 of the same table."""
    rows = config.max_positions + config.position_offset
    return config.replace(max_positions=rows, position_offset=0, position_pad=None)


def _new_norms(*names: str):
    """Norms that the mistaken config has and the right one has not."""

    def change(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
        width = config.hidden_size
        extra = {f"{name}.weight": torch.ones(width) for name in names}
        return config, tensors | extra | {f"{name}.bias": torch.zeros(width) for name in names}

    return change


def _pre_norm() -> Trap:
    def change(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
        config, tensors = _new_norms("final_norm")(config, tensors)
        return config.replace(norm_place="pre"), tensors

    return Trap(change)


def _first_norm() -> Trap:
    def change(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
        config, tensors = _new_norms("blocks.0.attention_norm")(config, tensors)
        return config.replace(first_norm=True), tensors

    return Trap(change)


_MASKED = {
    "norm of the transform": setting(transform_norm=False),
    "activation of the transform": setting(transform="tanh"),
    "bias of the output": setting(head_bias=False),
}
BERT = Case(
    "BERT",
    "BertForMaskedLM",
    _BODY,
    variants={
        "one segment": {"type_vocab_size": 1},
        "large epsilon": {"layer_norm_eps": 0.1},
        **_ACTIVATIONS,
        **_UNTIED,
    },
    traps=_MASKED
    | {
        "pre-norm": _pre_norm(),
        "epsilon 1e-12": setting("untied", norm_eps=1e-5),
        "segments": setting(token_types=0),
        "gelu by erf": setting(activation="gelu_tanh"),
        "norm of the embeddings": setting(embedding_norm=False),
    },
    edit=_untie,
)
ELECTRA = Case(
    "ELECTRA",
    "ElectraForMaskedLM",
    _BODY | {"embedding_size": 24},
    variants={"one width": {"embedding_size": 48}, **_ACTIVATIONS, **_UNTIED},
    traps=_MASKED | {"gelu whatever hidden_act": setting("relu", transform="relu")},
)
ROBERTA = Case(
    "RoBERTa",
    "RobertaForMaskedLM",
    _BODY,
    variants={
        "one segment": {"type_vocab_size": 1},
        "padding 4": {"pad_token_id": 4},
        **_ACTIVATIONS,
        **_UNTIED,
    },
    traps=_MASKED
    | {
        "positions from pad + 1": derived("plain", _from_zero),
        "gelu whatever hidden_act": setting("relu", transform="relu"),
    },
    edit=_untie,
)
XLM_R = dataclasses.replace(
    ROBERTA,
    family="XLM-R",
    architecture="XLMRobertaForMaskedLM",
    variants={},
    traps={"positions from pad + 1": derived("plain", _from_zero)},
)
CAMEMBERT = dataclasses.replace(XLM_R, family="CamemBERT", architecture="CamembertForMaskedLM")
DISTILBERT = Case(
    "DistilBERT",
    "DistilBertForMaskedLM",
    {
        "vocab_size": 61,
        "dim": 48,
        "hidden_dim": 80,
        "n_layers": 3,
        "n_heads": 4,
        "max_position_embeddings": 64,
    },
    variants={
        "relu": {"activation": "relu"},
        "sinusoids": {"sinusoidal_pos_embds": True},
        **_UNTIED,
    },
    traps=_MASKED | {"pre-norm": _pre_norm(), "epsilon 1e-12": setting("untied", norm_eps=1e-5)},
    edit=_untie,
)
ALBERT = Case(
    "ALBERT",
    "AlbertForMaskedLM",
    _BODY | {"embedding_size": 24},
    variants={
        "two groups": {"num_hidden_groups": 2},
        "five layers in two groups": {"num_hidden_layers": 5, "num_hidden_groups": 2},
        "a block a layer": {"num_hidden_groups": 3},
        "two blocks a group": {"inner_group_num": 2},
        "two groups of two": {"inner_group_num": 2, "num_hidden_groups": 2},
        "one width": {"embedding_size": 48},
        **_UNTIED,
    },
    traps=_MASKED
    | {
        "groups of layers": setting("two groups", num_blocks=1),
        "blocks of a group in turn": setting("two groups of two", blocks_per_group=1),
        "gelu by tanh": setting(activation="gelu", transform="gelu"),
        "segments": setting(token_types=0),
    },
    edit=_loud_mlp,
)
MPNET = Case(
    "MPNet",
    "MPNetForMaskedLM",
    _BODY,
    variants={"padding of another id": {"pad_token_id": 0}, **_ACTIVATIONS, **_UNTIED},
    traps=_MASKED
    | {
        "positions from 2": derived("plain", _from_zero),
        "relative bias": setting(bias="none"),
        "distances up to 128": setting(bias_max_distance=16),
        "gelu whatever hidden_act": setting("relu", transform="relu"),
    },
    lengths=(29, 8),
    edit=_untie,
)
_V3 = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
DEBERTA = Case(
    "DeBERTa-v3",
    "DebertaV2ForMaskedLM",
    _BODY | _V3,
    variants={
        "keys of its own": {"share_att_key": False},
        "content to position": {"pos_att_type": ["c2p"]},
        "position to content": {"pos_att_type": "p2c"},
        "queries of its own": {"share_att_key": False, "pos_att_type": "p2c"},
        "no buckets": {"position_buckets": -1, "max_relative_positions": 6},
        "near buckets": {"position_buckets": 4, "max_relative_positions": 16},
        "no norm": {"norm_rel_ebd": "none"},
        "absolute as well": {"position_biased_input": True, "type_vocab_size": 2},
        "absolute only": {
            "relative_attention": False,
            "pos_att_type": None,
            "norm_rel_ebd": "none",
            "position_biased_input": True,
        },
        "convolution": {"conv_kernel_size": 3},
        "convolution in groups": {"conv_kernel_size": 5, "conv_groups": 4, "conv_act": "gelu"},
        "narrow embeddings": {"embedding_size": 24, "position_biased_input": True},
        **_UNTIED,
    },
    traps=_MASKED
    | {
        "epsilon 1e-7": setting("untied", norm_eps=1e-5),
        "content to position": setting(bias_parts=("p2c",)),
        "position to content": setting(bias_parts=("c2p",)),
        "scale of three scores": setting(attention_scale=None),
        "norm of relative positions": setting(bias_norm=False),
        "reach of the buckets": setting(bias_max_distance=16),
        "segments": setting("absolute as well", token_types=0),
        "convolution beside the first block": setting("convolution", conv_size=0),
        "activation of the convolution": setting("convolution in groups", conv_activation="tanh"),
    },
    lengths=(29, 8),
    edit=_untie,
)
MODERNBERT = Case(
    "ModernBERT",
    "ModernBertForMaskedLM",
    _BODY
    | {
        "num_hidden_layers": 4,
        "local_attention": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    variants={
        "biases": {
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "classifier_bias": True,
        },
        "no bias of the output": {"decoder_bias": False},
        "relu": {"hidden_activation": "relu", "classifier_activation": "relu"},
        "global in the middle": {
            "layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention"]
        },
        "all global": {"layer_types": ["full_attention"] * 4},
        **_UNTIED,
    },
    traps=_MASKED
    | {
        "no first norm": _first_norm(),
        "local attention": derived("plain", lambda c: _windows(c, None)),
        "half of the window": derived("plain", lambda c: _windows(c, 8)),
        "its own token in the window": derived("plain", lambda c: _windows(c, 4)),
        "two rotations": derived("plain", lambda c: c.replace(kinds=(c.kinds[0],) * 2)),
        "gate after up": Trap(lambda c, t: (c, {k: _swapped(k, v) for k, v in t.items()})),
        "norm of the embeddings": setting(embedding_norm=False),
    },
    lengths=(29, 8),
)


def _windows(config: TransformerConfig, window: int | None) -> TransformerConfig:
    local = config.kinds[1].replace(window=window)
    return config.replace(kinds=(config.kinds[0], local))


def _swapped(key: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.roll(len(tensor) // 2, 0) if key.endswith("mlp.up.weight") else tensor


_FIRST = (
    BERT,
    ELECTRA,
    ROBERTA,
    XLM_R,
    CAMEMBERT,
    DISTILBERT,
    ALBERT,
    MPNET,
    DEBERTA,
    MODERNBERT,
)
# What the dense layer before the classifier of a sequence does.
_SEQUENCE_TRAPS = {
    "BERT": {"tanh of the pooler": setting(transform="relu")},
    "ELECTRA": {"gelu, not tanh": setting(transform="tanh")},
    "RoBERTa": {"dense and tanh": setting(transform=None)},
    "DistilBERT": {"relu": setting(transform="tanh")},
    "DeBERTa-v3": {"gelu of the pooler": setting(transform="tanh")},
    "ModernBERT": {"mean": setting("mean", pooling="first")},
}
_SEQUENCE_VARIANTS = {
    "DeBERTa-v3": {"tanh": {"pooler_hidden_act": "tanh"}},
    "ModernBERT": {"mean": {"classifier_pooling": "mean"}},
}
_NO_POOLER = ("ELECTRA", "DistilBERT", "DeBERTa-v3", "ModernBERT")
_POOLER = {"pooler": setting(transform="relu")}


def _under_heads() -> list[Case]:
    """Each family's body under its other heads."""
    cases = []
    for case in _FIRST:
        stem = case.architecture.removesuffix("ForMaskedLM")
        for head in (
            "Model",
            "ForSequenceClassification",
            "ForTokenClassification",
            "ForQuestionAnswering",
        ):
            sequence = head == "ForSequenceClassification"
            labels = {} if head in ("Model", "ForQuestionAnswering") else _LABELS
            traps = _SEQUENCE_TRAPS.get(case.family, {}) if sequence else {}
            pooled = head == "Model" and case.family not in _NO_POOLER
            cases.append(
                dataclasses.replace(
                    case,
                    architecture=stem + head,
                    settings=case.settings | labels,
                    variants=_SEQUENCE_VARIANTS.get(case.family, {}) if sequence else {},
                    traps=_POOLER if pooled else traps,
                )
            )
    return cases


_DISCRIMINATOR = dataclasses.replace(
    ELECTRA,
    architecture="ElectraForPreTraining",
    variants=_ACTIVATIONS,
    traps={"activation of the body": setting("relu", transform="gelu")},
)
ENCODERS = tuple(
    dataclasses.replace(case, alone=True, given_positions=False)
    for case in (*_FIRST, *_under_heads(), _DISCRIMINATOR)
)
