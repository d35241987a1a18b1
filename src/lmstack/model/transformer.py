"""The Transformer: one forward pass for every family, written once against `Ops`.

Covers encoders and decoders. Weights come from `lmstack.model.loading` or
`Transformer.reset_parameters`. Keys and values of earlier tokens are the business of the
`Attend` that is passed in. Not covered: dropout, losses, generation.

Legend: B batch, T tokens, D width, V vocabulary, H heads, hd channels of a head, "..." any
leading shape: (B, T) for a padded batch, (N,) for tokens packed end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.model.attention import Attend, DenseAttention, PackedAttention
from lmstack.model.config import TransformerConfig
from lmstack.model.layers import Embedding, LayerNorm, Linear, RMSNorm
from lmstack.model.ops import REFERENCE_OPS, Ops

__all__ = ["Attention", "Block", "Mlp", "Transformer", "TransformerOutput"]

Rotary = tuple[Tensor, Tensor]


def _norm(config: TransformerConfig) -> RMSNorm | LayerNorm:
    kind = RMSNorm if config.norm == "rms" else LayerNorm
    return kind(config.hidden_size, config.norm_eps)


class Attention(nn.Module):
    """Fused query-key-value projection, rotation, attention, output projection."""

    def __init__(self, config: TransformerConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        D, hd = config.hidden_size, config.head_dim
        self.qkv = Linear(D, config.qkv_heads * hd, bias=config.qkv_bias)
        self.out = Linear(config.num_heads * hd, D, bias=config.out_bias)
        self._split = (config.qkv_heads, hd)
        self._heads = (config.num_heads, config.num_kv_heads)
        self._layer, self._ops = layer, ops

    def forward(self, x: Tensor, rotary: Rotary | None, attend: Attend) -> Tensor:
        qkv = self._ops.linear(x, self.qkv)
        qkv = qkv.view(*qkv.shape[:-1], *self._split)
        Hq, Hkv = self._heads
        qk, v = qkv.split_with_sizes((Hq + Hkv, Hkv), dim=-2)
        if rotary is not None:
            qk = self._ops.rotary(qk, *rotary)
        q, k = qk.split_with_sizes((Hq, Hkv), dim=-2)
        return self._ops.linear(attend(self._layer, q, k, v).flatten(-2), self.out)


class Mlp(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) with gate and up fused in ``up``."""

    def __init__(self, config: TransformerConfig, ops: Ops) -> None:
        super().__init__()
        D, width = config.hidden_size, config.intermediate_size
        self._gated = config.mlp == "glu"
        self.up = Linear(D, width * (2 if self._gated else 1), bias=config.mlp_bias)
        self.down = Linear(width, D, bias=config.mlp_bias)
        self._activation, self._ops = config.activation, ops

    def forward(self, x: Tensor) -> Tensor:
        act = self._ops.glu if self._gated else self._ops.activation
        return self._ops.linear(act(self._ops.linear(x, self.up), self._activation), self.down)


class Block(nn.Module):
    """pre: x + f(norm(x)); post: norm(x + f(x)); for attention and then the MLP."""

    def __init__(self, config: TransformerConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = Attention(config, layer, ops)
        self.mlp_norm = _norm(config)
        self.mlp = Mlp(config, ops)
        self._pre, self._ops = config.norm_place == "pre", ops

    def forward(self, x: Tensor, rotary: Rotary | None, attend: Attend) -> Tensor:
        norm = self._ops.norm
        if self._pre:
            x = x + self.attention(norm(x, self.attention_norm), rotary, attend)
            x = x + self.mlp(norm(x, self.mlp_norm))
        else:
            x = norm(x + self.attention(x, rotary, attend), self.attention_norm)
            x = norm(x + self.mlp(x), self.mlp_norm)
        return x


@dataclass(frozen=True)
class TransformerOutput:
    """``logits`` (B, T, V) or None without an ``lm`` head; ``last_hidden_state`` (B, T, D) after
    the final norm; ``hidden_states``: embeddings, then the output of each block, the last after
    the final norm, as in transformers; ``pooled`` (B, D) or None without a ``pool`` head."""

    logits: Tensor | None
    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    pooled: Tensor | None = None


class Transformer(nn.Module):
    """Embeddings, ``config.num_layers`` blocks, final norm, head.

    Weights start as normal(0, 0.02). Build under ``torch.device("meta")`` to allocate none.
    """

    def __init__(self, config: TransformerConfig, ops: Ops = REFERENCE_OPS) -> None:
        super().__init__()
        self.config, self.ops = config, ops
        D = config.hidden_size
        self.embed = Embedding(config.vocab_size, D)
        self.embed_positions = (
            Embedding(config.max_positions, D) if config.learned_positions else None
        )
        self.embed_types = Embedding(config.token_types, D) if config.token_types else None
        self.embed_norm = _norm(config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(Block(config, i, ops) for i in range(config.num_layers))
        self.final_norm = _norm(config) if config.final_norm else None
        self.head: Linear | None = None
        if config.head == "lm" and not config.tie_embeddings:
            self.head = Linear(D, config.vocab_size, bias=False)
        self.pooler = Linear(D, D, bias=True) if config.head == "pool" else None
        ropes = [config.layer(i).rope for i in range(config.num_layers)]
        # Layers that rotate alike share one pair of tables a pass.
        self._ropes = list(dict.fromkeys(r for r in ropes if r is not None))
        self._rope_of = [None if r is None else self._ropes.index(r) for r in ropes]
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, std: float = 0.02) -> None:
        """Fresh weights: normal(0, ``std``) for matrices, ones for norms, zeros for biases."""
        if self.embed.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, Linear | Embedding):
                module.weight.normal_(0.0, std)
            elif isinstance(module, RMSNorm | LayerNorm):
                module.weight.fill_(1.0)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias.zero_()

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = True,
    ) -> TransformerOutput:
        """A padded batch of whole sequences, (B, T). Positions count from 0 at the left edge,
        padding included, as in transformers. ``output_hidden_states``: keep those of every
        layer; without it only the last is held."""
        self._check_batch(input_ids, attention_mask, token_type_ids)
        attend = DenseAttention(self.config, self.ops, attention_mask)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        states: list[Tensor] | None = [] if output_hidden_states else None
        last = self.hidden(input_ids, positions, attend, token_type_ids, states)
        return TransformerOutput(
            logits=self.logits(last) if self.config.head == "lm" else None,
            last_hidden_state=last,
            hidden_states=None if states is None else tuple(states),
            pooled=None if self.pooler is None else self.pool(last),
        )

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        attend: Attend,
        token_type_ids: Tensor | None = None,
        collect: list[Tensor] | None = None,
    ) -> Tensor:
        """THE forward pass: ids (...) at ``positions`` (broadcast to ids) to (..., D).

        Ids and positions are trusted to be in range. ``collect`` receives the hidden states of
        `TransformerOutput`.
        """
        x = self._embedded(input_ids, positions, token_type_ids)
        head_dim = self.config.head_dim
        tables = [rope.tables(positions, head_dim, x.dtype) for rope in self._ropes]
        for rope, block in zip(self._rope_of, self.blocks, strict=True):
            if collect is not None:
                collect.append(x)
            x = block(x, None if rope is None else tables[rope], attend)
        if self.final_norm is not None:
            x = self.ops.norm(x, self.final_norm)
        if collect is not None:
            collect.append(x)
        return x

    def packed(self, input_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Whole sequences end to end without padding: ids (N,) to hidden states (N, D).

        ``lengths``: tokens of each sequence; fastest when sorted. Ids are trusted.
        """
        if sum(lengths) != len(input_ids):
            raise InputError(f"lengths add up to {sum(lengths)}, input_ids are {len(input_ids)}")
        if not len(input_ids):
            return self.embed.weight.new_empty(0, self.config.hidden_size)
        counts = torch.arange(max(lengths), device=input_ids.device)
        positions = torch.cat([counts[:n] for n in lengths])
        attend = PackedAttention(self.config, self.ops, lengths)
        return self.hidden(input_ids, positions, attend)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) after the final norm to (..., V)."""
        if self.config.head != "lm":
            raise UnsupportedError(
                f"this model has head {self.config.head!r}, which gives no logits",
                hint="use a language model, for example smollm2-135m-instruct",
            )
        return self.ops.linear(hidden, self.embed if self.head is None else self.head)

    def pool(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to (B, D): tanh of a linear layer over each first token (BERT's pooler)."""
        if self.pooler is None:
            raise UnsupportedError(f"this model has head {self.config.head!r} and no pooler")
        return torch.tanh(self.ops.linear(hidden[:, 0], self.pooler))

    def _embedded(self, ids: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        x = self.ops.embedding(ids, self.embed)
        if self.embed_types is not None:
            types = torch.zeros_like(ids) if types is None else types
            x = x + self.ops.embedding(types, self.embed_types)
        if self.embed_positions is not None:
            x = x + self.ops.embedding(positions, self.embed_positions)
        return x if self.embed_norm is None else self.ops.norm(x, self.embed_norm)

    def _check_batch(self, ids: Tensor, mask: Tensor | None, types: Tensor | None) -> None:
        if ids.dim() != 2 or ids.is_floating_point():
            raise InputError(
                f"input_ids are {ids.dtype} of shape {tuple(ids.shape)}, not whole numbers (B, T)",
                param="input_ids",
            )
        for name, other in (("attention_mask", mask), ("token_type_ids", types)):
            if other is not None and other.shape != ids.shape:
                raise InputError(
                    f"{name} has shape {tuple(other.shape)}, input_ids {tuple(ids.shape)}",
                    param=name,
                )
        self._check_ids("input_ids", ids, self.config.vocab_size)
        if types is not None:
            self._check_ids("token_type_ids", types, self.config.token_types)
        if self.config.learned_positions and ids.shape[1] > self.config.max_positions:
            raise ContextLengthError(
                f"{ids.shape[1]} tokens, but the model has {self.config.max_positions} positions",
                hint="cut or split the text",
                param="input_ids",
            )

    @staticmethod
    def _check_ids(name: str, ids: Tensor, count: int) -> None:
        if not ids.numel():
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= count:
            raise InputError(
                f"{name} run from {low} to {high}, outside [0, {count})",
                param=name,
            )
