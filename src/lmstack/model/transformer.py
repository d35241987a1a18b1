"""The Transformer: one forward pass for every family, written once against `Ops`.

Covers encoders, decoders, encoder-decoders (a decoder that owns its encoder) and their heads.
Weights come from `lmstack.model.loading` or `Transformer.reset_parameters`. Keys and values of
earlier tokens are the business of the `Attend` of the `ForwardContext`. Not covered: losses,
generation.

Legend: B batch, T tokens, S tokens of the encoder, D width, V vocabulary, H heads, hd channels
of a head, "..." any leading shape: (B, T) for a padded batch, (N,) for a varlen batch, whole
sequences end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmstack.core import InputError, UnsupportedError
from lmstack.model.attention import CrossStates, DenseAttention, VarlenAttention
from lmstack.model.biases import AlibiBias, BucketBias, ScoreBias, alibi_slopes
from lmstack.model.blocks import Neighbours, TransformerBlock, make_norm
from lmstack.model.config import TransformerConfig
from lmstack.model.context import ForwardContext, Rotary
from lmstack.model.inputs import (
    check_batch,
    check_lengths,
    check_tokens,
    padded_positions,
    places_of,
    varlen_positions,
)
from lmstack.model.layers import Bias, Convolution, Embedding, Experts, LayerNorm, Linear, RMSNorm
from lmstack.model.ops import Ops
from lmstack.model.pooling import pool_varlen
from lmstack.model.positions import sinusoids

__all__ = ["Transformer", "TransformerOutput", "fresh_weights"]

REFERENCE = ForwardContext()


@dataclass(frozen=True)
class TransformerOutput:
    """What `Transformer.forward` gives; None for what the model has not or was not asked for.

    ``logits``: (B, T, V) of head ``lm``, (B, T, labels) of ``token``, (B, T, 2) of ``span``,
    (B, labels) of ``sequence``. ``last_hidden_state`` (B, T, D) after the final norm. Of a varlen
    batch B and T are N. ``readout``: what `Transformer.forward` was given for the head computed.
    ``hidden_states``: embeddings, then the output of each block, the last after the final norm,
    as in transformers. ``attentions``: (B, H, T, T) of each layer. ``pooled`` (B, D) of head
    ``pool``. Those of the encoder and its cross-attention where there is one.
    """

    logits: Tensor | None
    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    pooled: Tensor | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    readout: Tensor | None = None


class Transformer(nn.Module):
    """Embeddings, ``config.num_layers`` blocks, final norm, head.

    Weights start as normal(0, 0.02). Build under ``torch.device("meta")`` to allocate none.
    ``table``: an embedding table to use instead of one of its own, as an encoder does that
    shares its decoder's.
    """

    def __init__(self, config: TransformerConfig, *, table: Embedding | None = None) -> None:
        super().__init__()
        self.config = config
        # In a tuple, so that a shared table is not registered, and saved, twice.
        self._borrowed = () if table is None else (table,)
        if table is None:
            self.embed = Embedding(config.vocab_size, config.embedding_width)
        self._make_input(config)
        count = config.num_layers if config.num_blocks is None else config.num_blocks
        self.blocks = nn.ModuleList(TransformerBlock(config, i) for i in range(count))
        self._block_of = [config.block_of(layer) for layer in range(config.num_layers)]
        self.final_norm = make_norm(config) if config.final_norm else None
        self._make_head(config)
        self.encoder: Transformer | None = None
        if config.encoder is not None:
            shared = self.table if config.share_embeddings else None
            self.encoder = Transformer(config.encoder, table=shared)
        # Layers that rotate alike share one pair of tables a pass.
        ropes = [spec.rope for spec in config.layers]
        self._ropes = list(dict.fromkeys(r for r in ropes if r is not None))
        self._rope_of = [None if r is None else self._ropes.index(r) for r in ropes]
        self._slopes = (
            alibi_slopes(config.num_heads, config.alibi_max) if config.bias == "alibi" else None
        )
        self.reset_parameters()

    def _make_input(self, config: TransformerConfig) -> None:
        D, width = config.hidden_size, config.embedding_width
        self.embed_positions = self.embed_types = self.embed_norm = self.embed_project = None
        if config.positions == "learned":
            self.embed_positions = Embedding(config.max_positions + config.position_offset, width)
        if config.token_types:
            self.embed_types = Embedding(config.token_types, width)
        if config.embedding_norm:
            self.embed_norm = make_norm(config, D if config.projects_first else width)
        if config.embedding_size is not None:
            self.embed_project = Linear(width, D, bias=not config.projects_first)
        self.neighbours = Neighbours(config) if config.conv_size else None
        self.relative_bias = self.embed_relative = self.relative_norm = None
        if config.bias == "t5":
            self.relative_bias = Embedding(config.bias_buckets, config.num_heads)
        if config.bias == "deberta":
            self.embed_relative = Embedding(2 * config.bias_span, D)
            self.relative_norm = make_norm(config) if config.bias_norm else None

    def _make_head(self, config: TransformerConfig) -> None:
        D, width = config.hidden_size, config.hidden_size
        self.transform = self.transform_norm = self.head = self.head_bias = self.classifier = None
        if config.transform is not None:
            width = config.embedding_width if config.head == "lm" else D
            self.transform = Linear(D, width, bias=config.transform_bias)
            self.transform_norm = make_norm(config, width) if config.transform_norm else None
        if config.head == "lm":
            if not config.tie_embeddings:
                self.head = Linear(width, config.vocab_size, bias=False)
            self.head_bias = Bias(config.vocab_size) if config.head_bias else None
        elif config.num_outputs:
            self.classifier = Linear(D, config.num_outputs, bias=config.classifier_bias)

    def reset_parameters(self, std: float = 0.02) -> None:
        """Fresh weights: normal(0, ``std``) for matrices, no change for norms, zero biases."""
        if self.table.weight.is_meta:
            return
        fresh_weights(self, std)

    @property
    def table(self) -> Embedding:
        """The embedding table, own or shared."""
        return self._borrowed[0] if self._borrowed else self.embed

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """That of the hidden states. A quantized matrix has none; the norms beside it have."""
        return next(self.parameters()).dtype

    def put(self, path: str, matrix: Linear | Embedding) -> None:
        """``matrix`` in the place of the one at ``path``, a shared table for all who share it."""
        owner, _, name = path.rpartition(".")
        replaced = self.get_submodule(path)
        setattr(self.get_submodule(owner), name, matrix)
        if isinstance(matrix, Embedding):
            for module in self.modules():
                if isinstance(module, Transformer) and module._borrowed == (replaced,):
                    module._borrowed = (matrix,)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        lengths: Sequence[int] | None = None,
        continues: Sequence[int] = (),
        context: ForwardContext = REFERENCE,
        output_hidden_states: bool = True,
        output_attentions: bool = False,
        readout: Callable[[Tensor], Tensor] | None = None,
    ) -> TransformerOutput:
        """A padded batch of whole sequences, (B, T), or with ``lengths`` a varlen batch, (N,).

        Positions count from the first real token of each row, so padding on either side changes
        nothing at real places. An encoder-decoder reads ``input_ids`` (B, S) with its encoder and
        ``decoder_input_ids`` (B, T) with its decoder. ``lengths``: tokens of each sequence of a
        varlen batch, with sum N; attention stays within each, in memory linear in N, and is
        fastest where neighbours are of equal length; each of the last sequences goes on where that
        of ``continues`` ends. ``output_hidden_states``: keep those of
        every layer; without it only the last is held. ``output_attentions``: the weights, at the
        cost of memory. ``readout``: applied to the last hidden states in the place of the head,
        where the weights are whole even if the model is sharded (a loss, mostly).
        """
        states: list[Tensor] | None = [] if output_hidden_states else None
        if lengths is not None:
            cut = (lengths, continues)
            return self._varlen(input_ids, cut, token_type_ids, context, states, readout)
        encoded = None
        cross: CrossStates = ()
        cross_mask = None
        if self.encoder is not None:
            if decoder_input_ids is None:
                raise InputError(
                    "an encoder-decoder was called without decoder_input_ids",
                    hint="start them with the model's decoder_start_token_id",
                    param="decoder_input_ids",
                )
            encoded = self.encoder(
                input_ids,
                attention_mask,
                token_type_ids,
                context=context,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )
            cross = self.cross_states(encoded.last_hidden_state, context)
            cross_mask = attention_mask
            input_ids, attention_mask = decoder_input_ids, decoder_attention_mask
            token_type_ids = None
        elif decoder_input_ids is not None or decoder_attention_mask is not None:
            raise InputError("decoder_input_ids for a model without an encoder")
        check_batch(self.config, input_ids, attention_mask, token_type_ids)
        attend = DenseAttention(
            self.config, context.ops, attention_mask, cross, cross_mask, output_attentions
        )
        positions = self.positions_of(input_ids, attention_mask)
        context = context.replace(attend=attend, mask=attention_mask)
        last = self.hidden(input_ids, positions, context, token_type_ids, states)
        logits = pooled = None
        if readout is None:
            logits, pooled = self.headed(last, attention_mask, context)
        return TransformerOutput(
            logits=logits,
            readout=None if readout is None else readout(last),
            last_hidden_state=last,
            hidden_states=None if states is None else tuple(states),
            pooled=pooled,
            attentions=None if attend.weights is None else tuple(attend.weights),
            cross_attentions=tuple(attend.cross_weights or ()) or None,
            encoder_last_hidden_state=None if encoded is None else encoded.last_hidden_state,
            encoder_hidden_states=None if encoded is None else encoded.hidden_states,
            encoder_attentions=None if encoded is None else encoded.attentions,
        )

    def _varlen(
        self,
        ids: Tensor,
        cut: tuple[Sequence[int], Sequence[int]],
        types: Tensor | None,
        context: ForwardContext,
        states: list[Tensor] | None,
        readout: Callable[[Tensor], Tensor] | None,
    ) -> TransformerOutput:
        """`forward` of a varlen batch. ``cut``: its ``lengths`` and ``continues``."""
        lengths, continues = cut
        check_lengths(self.config, ids, lengths, continues)
        ends = map(sum, zip(places_of(lengths, continues), lengths, strict=True))
        check_tokens(self.config, ids, types, max(ends, default=0))
        last = self.varlen_hidden(ids, lengths, types, context, states, continues)
        kept = None if states is None else tuple(states)
        if readout is not None:
            return TransformerOutput(None, last, hidden_states=kept, readout=readout(last))
        logits, pooled = self.headed(last, None, context, lengths)
        return TransformerOutput(logits, last, hidden_states=kept, pooled=pooled)

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        context: ForwardContext,
        token_type_ids: Tensor | None = None,
        collect: list[Tensor] | None = None,
        *,
        length: int | None = None,
    ) -> Tensor:
        """THE forward pass: ids (...) at ``positions`` (broadcast to ids) to (..., D).

        Ids and positions are trusted to be in range; ``context`` has its ``attend``. ``collect``
        receives the hidden states of `TransformerOutput`. ``length``: tokens that rotary scalings
        which depend on the length reckon with; None: what the positions reach.
        """
        x = self._embedded(input_ids, positions, token_type_ids, context)
        x = context.dropped(x, -1, 0)
        context = self._prepared(context, positions, x.dtype, length)
        recomputed = context.checkpoint and torch.is_grad_enabled()
        for layer, block in enumerate(self._block_of):
            if collect is not None:
                collect.append(x)
            module = self._block(block)
            before = x
            if recomputed:
                x = checkpoint(module, x, layer, context, use_reentrant=False)
            else:
                x = module(x, layer, context)
            if self.neighbours is not None and layer == 0:
                x = self.neighbours(before, x, positions, context)
        if self.final_norm is not None:
            x = context.ops.norm(x, self.final_norm)
        if collect is not None:
            collect.append(x)
        return x

    def _prepared(
        self, context: ForwardContext, positions: Tensor, dtype: torch.dtype, length: int | None
    ) -> ForwardContext:
        """``context`` with what all blocks of the pass share."""
        ops, hd = context.ops, self.config.head_dim
        made = [ops.rotary_tables(rope, positions, hd, dtype, length) for rope in self._ropes]
        tables: list[Rotary | None] = [None if i is None else made[i] for i in self._rope_of]
        return context.replace(
            rotary=tuple(tables), bias=self._shared_bias(), relative=self._relative(context)
        )

    def headed(
        self,
        last: Tensor,
        mask: Tensor | None,
        context: ForwardContext = REFERENCE,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the head makes of the last hidden states (B, T, D), or (N, D) of a varlen batch:
        `TransformerOutput`'s logits and pooled."""
        head = self.config.head
        if head in ("pool", "sequence"):
            if lengths is None:
                last = self.pool(last, mask)
            else:
                last = pool_varlen(last, lengths, self.config.pooling)
        if head == "pool":
            return None, self.transformed(last, context)
        return (None if head == "none" else self.logits(last, context)), None

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        context: ForwardContext = REFERENCE,
    ) -> Tensor:
        """The encoder's hidden states, (B, S) to (B, S, D)."""
        if self.encoder is None:
            raise UnsupportedError("this model has no encoder apart from its decoder")
        output = self.encoder(
            input_ids, attention_mask, context=context, output_hidden_states=False
        )
        assert isinstance(output, TransformerOutput)
        return output.last_hidden_state

    def cross_states(
        self, encoded: Tensor, context: ForwardContext = REFERENCE
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each decoder layer's cross-attention, (..., D) to (..., Hkv, hd)."""
        crosses = [self._block(block).cross for block in self._block_of]
        return [cross.states(encoded, context) for cross in crosses if cross is not None]

    def varlen_hidden(
        self,
        input_ids: Tensor,
        lengths: Sequence[int],
        token_type_ids: Tensor | None = None,
        context: ForwardContext = REFERENCE,
        collect: list[Tensor] | None = None,
        continues: Sequence[int] = (),
    ) -> Tensor:
        """`hidden` of a varlen batch, ids (N,) to (N, D). Ids are trusted."""
        check_lengths(self.config, input_ids, lengths, continues)
        if not len(input_ids):
            return torch.empty(0, self.config.hidden_size, dtype=self.dtype, device=self.device)
        attend = VarlenAttention(self.config, context.ops, lengths, continues)
        context = context.replace(attend=attend)
        positions = varlen_positions(self.config, input_ids, lengths, continues)
        return self.hidden(input_ids, positions, context, token_type_ids, collect)

    def positions_of(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Positions of a padded batch (B, T), counted from the first real token of each row:
        (T,) where all rows count alike."""
        return padded_positions(self.config, ids, mask)

    def logits(self, hidden: Tensor, context: ForwardContext = REFERENCE) -> Tensor:
        """(..., D) after the final norm (pooled, for head ``sequence``) to (..., V or labels)."""
        config, ops = self.config, context.ops
        if not config.num_outputs:
            raise UnsupportedError(
                f"this model has head {config.head!r}, which gives no logits",
                hint="use a model with a head for the task, such as smollm2-135m-instruct for text",
            )
        hidden = self.transformed(hidden, context)
        if self.classifier is not None:
            return ops.linear(hidden, self.classifier)
        if config.logit_scale != 1.0:
            hidden = hidden * config.logit_scale
        logits = ops.linear(hidden, self.table if self.head is None else self.head)
        if self.head_bias is not None:
            logits = logits + self.head_bias.bias
        if config.logit_softcap is not None:
            logits = torch.tanh(logits / config.logit_softcap) * config.logit_softcap
        return logits

    def output_parameters(self) -> list[nn.Parameter]:
        """Those that `logits` computes with."""
        table = self.table if self.config.head == "lm" and self.head is None else None
        parts = (self.transform, self.transform_norm, self.head, self.head_bias, self.classifier)
        return [w for part in (*parts, table) if part is not None for w in part.parameters()]

    def transformed(self, hidden: Tensor, context: ForwardContext = REFERENCE) -> Tensor:
        """The dense layer before the head, where the model has one."""
        if self.transform is None or self.config.transform is None:
            return hidden
        ops = context.ops
        hidden = ops.activation(ops.linear(hidden, self.transform), self.config.transform)
        return hidden if self.transform_norm is None else ops.norm(hidden, self.transform_norm)

    def pool(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, D): the first real token, the last, or the mean, by the config."""
        if mask is None:
            mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        rows = torch.arange(len(hidden), device=hidden.device)
        if self.config.pooling == "mean":
            weights = mask.to(hidden.dtype)[..., None]
            return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        if self.config.pooling == "first":
            return hidden[rows, mask.bool().int().argmax(-1)]
        places = torch.arange(mask.shape[1], device=mask.device)
        return hidden[rows, (places * mask.bool()).argmax(-1)]

    def _block(self, index: int) -> TransformerBlock:
        block = self.blocks[index]
        assert isinstance(block, TransformerBlock)
        return block

    def _shared_bias(self) -> ScoreBias | None:
        """What every layer adds to its scores alike."""
        config = self.config
        if self._slopes is not None:
            return AlibiBias(self._slopes)
        if self.relative_bias is not None:
            return BucketBias(
                self.relative_bias.weight, config.bias_max_distance, both_sides=not config.causal
            )
        return None

    def _relative(self, context: ForwardContext) -> Tensor | None:
        """DeBERTa's table of relative positions, normed."""
        if self.embed_relative is None:
            return None
        table = self.embed_relative.weight
        return table if self.relative_norm is None else context.ops.norm(table, self.relative_norm)

    def _embedded(
        self, ids: Tensor, positions: Tensor, types: Tensor | None, context: ForwardContext
    ) -> Tensor:
        config, ops = self.config, context.ops
        x = ops.embedding(ids, self.table)
        if config.embedding_scale != 1.0:
            x = x * torch.tensor(config.embedding_scale, dtype=x.dtype, device=x.device)
        if self.embed_types is not None:
            types = torch.zeros_like(ids) if types is None else types
            x = x + ops.embedding(types, self.embed_types)
        if config.positions != "none":
            x = x + self._position_vectors(positions + config.position_offset, x, ops)
        if self.embed_project is not None and config.projects_first:
            x = ops.linear(x, self.embed_project)
        if self.embed_norm is not None:
            x = ops.norm(x, self.embed_norm)
        if self.embed_project is not None and not config.projects_first:
            x = ops.linear(x, self.embed_project)
        return x

    def _position_vectors(self, rows: Tensor, x: Tensor, ops: Ops) -> Tensor:
        if self.embed_positions is not None:
            return ops.embedding(rows, self.embed_positions)
        halves = self.config.positions == "sinusoidal_halves"
        return sinusoids(rows, x.shape[-1], halves=halves).to(x.dtype)


@torch.no_grad()
def fresh_weights(part: nn.Module, std: float = 0.02) -> None:
    """Fill ``part`` in place: normal(0, ``std``) for matrices, no change for norms, zero biases."""
    for module in part.modules():
        if isinstance(module, Linear | Embedding | Experts | Convolution):
            module.weight.normal_(0.0, std)
        elif isinstance(module, RMSNorm | LayerNorm):
            module.weight.fill_(0.0 if getattr(module, "from_one", False) else 1.0)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
