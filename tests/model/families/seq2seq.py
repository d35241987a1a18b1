"""Cases of encoder-decoders: settings, variants and traps of each family, and its other heads."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from lmstack.model import TransformerConfig

from .cases import Case, Tensors, Trap, derived, louder, setting

_LABELS = {"id2label": {i: str(i) for i in range(3)}, "label2id": {str(i): i for i in range(3)}}


def both(variant: str = "plain", **changes: Any) -> Trap:
    """The mistake made in the encoder and in the decoder."""

    def change(config: TransformerConfig) -> TransformerConfig:
        assert config.encoder is not None
        return config.replace(encoder=config.encoder.replace(**changes), **changes)

    return derived(variant, change)


def _encoder_only(**changes: Any) -> Trap:
    def change(config: TransformerConfig) -> TransformerConfig:
        assert config.encoder is not None
        return config.replace(encoder=config.encoder.replace(**changes))

    return derived("plain", change)


_T5 = {
    "vocab_size": 61,
    "d_model": 48,
    "d_kv": 16,
    "d_ff": 80,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_GATED = {"feed_forward_proj": "gated-gelu"}


def _calm(model: nn.Module) -> None:
    """Scores without a scale that stay moderate, so that rounding does."""
    for name, parameter in model.named_parameters():
        if name.endswith("Attention.q.weight"):
            parameter.mul_(0.25)


def _own_output(model: nn.Module) -> None:
    """An output layer apart from the embeddings, as the checkpoints of v1.1 have, and embeddings
    so small that the epsilon of the first norm matters."""
    _calm(model)
    generator = torch.Generator().manual_seed(7)
    table = model.get_input_embeddings().weight
    table.mul_(0.02)
    model.lm_head.weight = nn.Parameter(0.15 * torch.randn(table.shape, generator=generator))


T5 = Case(
    "T5",
    "T5ForConditionalGeneration",
    _T5,
    variants={
        "gated": _GATED,
        "gated silu": {"feed_forward_proj": "gated-silu"},
        "gelu": {"feed_forward_proj": "gelu"},
        "unscaled": _GATED | {"tie_word_embeddings": False},
        "few buckets": {
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
        },
    },
    traps={
        "scores unscaled": both(attention_scale=None),
        "relative bias": both(bias="none"),
        "relative bias of the encoder": _encoder_only(bias="none"),
        "reach of the buckets": both("few buckets", bias_max_distance=128),
        "output scaled": setting(logit_scale=1.0),
        "output of v1.1 unscaled": setting("unscaled", logit_scale=48**-0.5),
        "gelu by tanh": both("unscaled", activation="gelu"),
        "relu": both(activation="gelu"),
    },
    lengths=(29, 8),
    edit=_calm,
)
T5_V11 = Case(
    "T5 v1.1, FLAN",
    "T5ForConditionalGeneration",
    _T5 | _GATED | {"tie_word_embeddings": False},
    traps={
        "own output layer": setting(tie_embeddings=True),
        "epsilon 1e-6": both(norm_eps=1e-4),
        "unscaled": setting(logit_scale=48**-0.5),
    },
    edit=_own_output,
)
MT5 = Case(
    "mT5",
    "MT5ForConditionalGeneration",
    _T5,
    traps={"unscaled": setting(logit_scale=48**-0.5)},
    edit=_calm,
)
MT5_OWN = dataclasses.replace(T5_V11, family="mT5 untied", architecture=MT5.architecture)

_BART = {
    "vocab_size": 61,
    "d_model": 48,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 6,
    "max_position_embeddings": 64,
    # What ends a text there is forced on the last step.
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
}


def _biased(model: nn.Module) -> None:
    """A bias of the logits, which starts as zeros; and where stacks do not share a table, the
    one that both would share is the decoder's, as files have it."""
    generator = torch.Generator().manual_seed(7)
    untied = not model.config.tie_word_embeddings or not getattr(
        model.config, "share_encoder_decoder_embeddings", True
    )
    for name, buffer in model.named_buffers():
        if name.endswith("final_logits_bias"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    for module in model.modules():
        if hasattr(module, "create_weight"):
            module.weight.copy_(module.create_weight())  # sinusoids are no weights to change
    louder("embed_tokens" if untied else "shared", 2.0)(model)
    body = getattr(model, "model", model)
    if untied and hasattr(body, "shared"):
        body.shared.weight.copy_(body.decoder.embed_tokens.weight)


def _from_zero(config: TransformerConfig) -> TransformerConfig:
    assert config.encoder is not None
    rows = {"position_offset": 0, "max_positions": config.max_positions + 2}
    return config.replace(encoder=config.encoder.replace(**rows), **rows)


def _pre_norm(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
    assert config.encoder is not None
    place = {"norm_place": "pre"}
    more = {f"{at}final_norm.weight": torch.ones(48) for at in ("", "encoder.")}
    more |= {f"{at}final_norm.bias": torch.zeros(48) for at in ("", "encoder.")}
    return config.replace(encoder=config.encoder.replace(**place), **place), tensors | more


BART = Case(
    "BART",
    "BartForConditionalGeneration",
    _BART,
    variants={
        "scaled": {"scale_embedding": True},
        "relu": {"activation_function": "relu"},
        "untied": {"tie_word_embeddings": False},
    },
    traps={
        "post-norm": Trap(_pre_norm),
        "positions from 2": derived("plain", _from_zero),
        "norm of the embeddings": both(embedding_norm=False),
        "scale of the embeddings": both("scaled", embedding_scale=1.0),
        "bias of the logits": setting(head_bias=False),
        "gelu by erf": both(activation="gelu_tanh"),
        "one table": setting("untied", share_embeddings=True),
    },
    edit=_biased,
)
MBART = dataclasses.replace(
    BART,
    family="mBART",
    architecture="MBartForConditionalGeneration",
    variants={"scaled": {"scale_embedding": True}},
    traps={
        "positions from 2": derived("plain", _from_zero),
        "norm of the embeddings": both(embedding_norm=False),
        "pre-norm": both(norm_place="post"),
    },
)
MARIAN = dataclasses.replace(
    BART,
    family="Marian",
    architecture="MarianMTModel",
    settings=_BART | {"pad_token_id": 60, "decoder_start_token_id": 60, "eos_token_id": 0},
    variants={
        "scaled swish": {"scale_embedding": True, "activation_function": "swish"},
        "two tables": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 67},
        "odd width": {
            "d_model": 45,
            "encoder_attention_heads": 5,
            "decoder_attention_heads": 3,
        },
    },
    traps={
        "sines, then cosines": both(positions="sinusoidal"),
        "no norm of the embeddings": Trap(
            lambda c, t: (
                c.replace(embedding_norm=True, encoder=c.encoder.replace(embedding_norm=True)),
                t
                | {f"{at}embed_norm.weight": torch.ones(48) for at in ("", "encoder.")}
                | {f"{at}embed_norm.bias": torch.zeros(48) for at in ("", "encoder.")},
            )
        ),
        "scale of the embeddings": both("scaled swish", embedding_scale=1.0),
        "swish": both("scaled swish", activation="gelu"),
        "bias of the logits": setting(head_bias=False),
    },
)
_SINUSOIDS = ("embed_positions.weight",)
PEGASUS = dataclasses.replace(
    MARIAN,
    family="Pegasus",
    architecture="PegasusForConditionalGeneration",
    computed=_SINUSOIDS,
    settings=_BART | {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1},
    variants={"scaled": {"scale_embedding": True}},
    traps={
        "pre-norm": both(norm_place="post"),
        "sines, then cosines": both(positions="sinusoidal"),
    },
)


def _heads(case: Case, *architectures: str) -> list[Case]:
    stem = case.architecture.removesuffix("ForConditionalGeneration").removesuffix("MTModel")
    plain: dict[str, Any] = {"variants": {}, "traps": {}}
    labels = [{} if "Model" in name or "Question" in name else _LABELS for name in architectures]
    return [
        dataclasses.replace(
            case,
            architecture=stem + name,
            settings=case.settings | more,
            ends=name == "ForSequenceClassification",
            **plain,
        )
        for name, more in zip(architectures, labels, strict=True)
    ]


_ALL = ("Model", "ForSequenceClassification", "ForQuestionAnswering")
SEQ2SEQ = tuple(
    dataclasses.replace(case, alone=True, given_positions=False)
    for case in (
        T5,
        T5_V11,
        *_heads(T5, *_ALL, "EncoderModel", "ForTokenClassification"),
        MT5,
        MT5_OWN,
        *_heads(MT5, *_ALL, "EncoderModel", "ForTokenClassification"),
        BART,
        *_heads(BART, *_ALL),
        MBART,
        *_heads(MBART, *_ALL),
        MARIAN,
        *_heads(dataclasses.replace(MARIAN, computed=_SINUSOIDS), "Model"),
        PEGASUS,
        *_heads(PEGASUS, "Model"),
    )
)
