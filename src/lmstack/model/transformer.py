"""The Transformer: one forward pass for every family, written once against `Ops`.

Covers encoders, decoders, encoder-decoders (a decoder that owns its encoder) and their heads.
Weights come from `lmstack.model.loading` or `Transformer.reset_parameters`. Keys and values of
earlier tokens are the business of the `Attend` that is passed in. Not covered: dropout, losses,
generation.

Legend: B batch, T tokens, S tokens of the encoder, D width, V vocabulary, H heads, hd channels
of a head, "..." any leading shape: (B, T) for a padded batch, (N,) for tokens packed end to end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.model.attention import Attend, CrossStates, DenseAttention, PackedAttention
from lmstack.model.biases import AlibiBias, BucketBias, ScoreBias, alibi_slopes
from lmstack.model.blocks import Block, make_norm
from lmstack.model.config import TransformerConfig
from lmstack.model.layers import Bias, Embedding, Experts, LayerNorm, Linear, RMSNorm
from lmstack.model.ops import REFERENCE_OPS, Ops
from lmstack.model.positions import sinusoids

__all__ = ["Transformer", "TransformerOutput"]


@dataclass(frozen=True)
class TransformerOutput:
    """What `Transformer.forward` gives; None for what the model has not or was not asked for.

    ``logits``: (B, T, V) of head ``lm``, (B, T, labels) of ``token``, (B, T, 2) of ``span``,
    (B, labels) of ``sequence``. ``last_hidden_state`` (B, T, D) after the final norm.
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


class Transformer(nn.Module):
    """Embeddings, ``config.num_layers`` blocks, final norm, head.

    Weights start as normal(0, 0.02). Build under ``torch.device("meta")`` to allocate none.
    ``table``: an embedding table to use instead of one of its own, as an encoder does that
    shares its decoder's.
    """

    def __init__(
        self,
        config: TransformerConfig,
        ops: Ops = REFERENCE_OPS,
        *,
        table: Embedding | None = None,
    ) -> None:
        super().__init__()
        self.config, self.ops = config, ops
        # In a tuple, so that a shared table is not registered, and saved, twice.
        self._borrowed = () if table is None else (table,)
        if table is None:
            self.embed = Embedding(config.vocab_size, config.embedding_width)
        self._make_input(config)
        count = config.num_layers if config.num_blocks is None else config.num_blocks
        self.blocks = nn.ModuleList(Block(config, i, ops) for i in range(count))
        # Layer i is block i, or one of fewer that serve equally many layers each.
        self._block_of = [i * count // config.num_layers for i in range(config.num_layers)]
        self.final_norm = make_norm(config) if config.final_norm else None
        self._make_head(config)
        self.encoder: Transformer | None = None
        if config.encoder is not None:
            shared = self.table if config.share_embeddings else None
            self.encoder = Transformer(config.encoder, ops, table=shared)
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
            self.embed_norm = make_norm(config, width)
        if config.embedding_size is not None:
            self.embed_project = Linear(width, D, bias=True)
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

    @torch.no_grad()
    def reset_parameters(self, std: float = 0.02) -> None:
        """Fresh weights: normal(0, ``std``) for matrices, no change for norms, zero biases."""
        if self.table.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, Linear | Embedding | Experts):
                module.weight.normal_(0.0, std)
            elif isinstance(module, RMSNorm | LayerNorm):
                module.weight.fill_(0.0 if getattr(module, "from_one", False) else 1.0)
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                bias.zero_()

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

    @contextlib.contextmanager
    def using(self, ops: Ops) -> Iterator[None]:
        """The same weights under other ``ops``. Not while another thread computes with them."""
        holders = [module for module in self.modules() if hasattr(module, "_ops")]
        kept, self.ops = self.ops, ops
        for module in holders:
            module._ops = ops  # type: ignore[assignment]
        try:
            with contextlib.nullcontext() if self.encoder is None else self.encoder.using(ops):
                yield
        finally:
            self.ops = kept
            for module in holders:
                module._ops = kept  # type: ignore[assignment]

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
        output_hidden_states: bool = True,
        output_attentions: bool = False,
    ) -> TransformerOutput:
        """A padded batch of whole sequences, (B, T).

        Positions count from the first real token of each row, so padding on either side changes
        nothing at real places. An encoder-decoder reads ``input_ids`` (B, S) with its encoder and
        ``decoder_input_ids`` (B, T) with its decoder. ``output_hidden_states``: keep those of
        every layer; without it only the last is held. ``output_attentions``: the weights, at the
        cost of memory.
        """
        states: list[Tensor] | None = [] if output_hidden_states else None
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
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )
            cross, cross_mask = self.cross_states(encoded.last_hidden_state), attention_mask
            input_ids, attention_mask = decoder_input_ids, decoder_attention_mask
            token_type_ids = None
        elif decoder_input_ids is not None or decoder_attention_mask is not None:
            raise InputError("decoder_input_ids for a model without an encoder")
        self._check_batch(input_ids, attention_mask, token_type_ids)
        attend = DenseAttention(
            self.config, self.ops, attention_mask, cross, cross_mask, output_attentions
        )
        positions = self.positions_of(input_ids, attention_mask)
        last = self.hidden(input_ids, positions, attend, token_type_ids, states)
        logits, pooled = self.headed(last, attention_mask)
        return TransformerOutput(
            logits=logits,
            last_hidden_state=last,
            hidden_states=None if states is None else tuple(states),
            pooled=pooled,
            attentions=None if attend.weights is None else tuple(attend.weights),
            cross_attentions=tuple(attend.cross_weights or ()) or None,
            encoder_last_hidden_state=None if encoded is None else encoded.last_hidden_state,
            encoder_hidden_states=None if encoded is None else encoded.hidden_states,
            encoder_attentions=None if encoded is None else encoded.attentions,
        )

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        attend: Attend,
        token_type_ids: Tensor | None = None,
        collect: list[Tensor] | None = None,
        *,
        length: int | None = None,
    ) -> Tensor:
        """THE forward pass: ids (...) at ``positions`` (broadcast to ids) to (..., D).

        Ids and positions are trusted to be in range. ``collect`` receives the hidden states of
        `TransformerOutput`. ``length``: tokens that rotary scalings which depend on the length
        reckon with; None: what the positions reach.
        """
        x = self._embedded(input_ids, positions, token_type_ids)
        tables = [
            self.ops.rotary_tables(rope, positions, self.config.head_dim, x.dtype, length)
            for rope in self._ropes
        ]
        shared = self._shared_bias()
        relative = self._relative()
        for layer, (rope, block) in enumerate(zip(self._rope_of, self._block_of, strict=True)):
            if collect is not None:
                collect.append(x)
            module = self._block(block)
            bias = shared if relative is None else module.attention.disentangled(relative)
            x = module(x, layer, None if rope is None else tables[rope], attend, bias)
        if self.final_norm is not None:
            x = self.ops.norm(x, self.final_norm)
        if collect is not None:
            collect.append(x)
        return x

    def headed(self, last: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What the head makes of the last hidden states (B, T, D): `TransformerOutput`'s logits
        and pooled."""
        if self.config.head == "pool":
            return None, self.transformed(self.pool(last, mask))
        if self.config.head == "sequence":
            return self.logits(self.pool(last, mask)), None
        return (None if self.config.head == "none" else self.logits(last)), None

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The encoder's hidden states, (B, S) to (B, S, D)."""
        if self.encoder is None:
            raise UnsupportedError("this model has no encoder apart from its decoder")
        output = self.encoder(input_ids, attention_mask, output_hidden_states=False)
        assert isinstance(output, TransformerOutput)
        return output.last_hidden_state

    def cross_states(self, encoded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each decoder layer's cross-attention, (..., D) to (..., Hkv, hd)."""
        crosses = [self._block(block).cross for block in self._block_of]
        return [cross.states(encoded) for cross in crosses if cross is not None]

    def packed(
        self, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Whole sequences end to end without padding: ids (N,) to hidden states (N, D).

        ``lengths``: tokens of each sequence; fastest when sorted. Ids are trusted.
        """
        if sum(lengths) != len(input_ids):
            raise InputError(f"lengths add up to {sum(lengths)}, input_ids are {len(input_ids)}")
        if not len(input_ids):
            return torch.empty(0, self.config.hidden_size, dtype=self.dtype, device=self.device)
        counts = torch.arange(max(lengths), device=input_ids.device)
        pad = self.config.position_pad
        if pad is not None and bool((input_ids == pad).any()):
            rows = input_ids.split_with_sizes(list(lengths))
            positions = torch.cat([self.positions_of(row[None])[0] for row in rows])
        else:
            positions = torch.cat([counts[:n] for n in lengths])
        attend = PackedAttention(self.config, self.ops, lengths)
        return self.hidden(input_ids, positions, attend, token_type_ids)

    def positions_of(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Positions of a padded batch (B, T), counted from the first real token of each row:
        (T,) where all rows count alike."""
        if self.config.position_pad is not None:
            real = ids != self.config.position_pad
            if mask is not None:
                real &= mask.bool()
            counts = real.cumsum(-1)
            return torch.where(real, counts - 1, -1)
        places = torch.arange(ids.shape[1], device=ids.device)
        if mask is None or not mask.numel() or bool(mask[:, 0].all()):
            return places
        before = (mask.cumsum(-1) == 0).sum(-1, keepdim=True)
        return (places - before).clamp(min=0)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) after the final norm (pooled, for head ``sequence``) to (..., V or labels)."""
        config = self.config
        if not config.num_outputs:
            raise UnsupportedError(
                f"this model has head {config.head!r}, which gives no logits",
                hint="use a model with a head for the task, such as smollm2-135m-instruct for text",
            )
        hidden = self.transformed(hidden)
        if self.classifier is not None:
            return self.ops.linear(hidden, self.classifier)
        if config.logit_scale != 1.0:
            hidden = hidden * config.logit_scale
        logits = self.ops.linear(hidden, self.table if self.head is None else self.head)
        if self.head_bias is not None:
            logits = logits + self.head_bias.bias
        if config.logit_softcap is not None:
            logits = torch.tanh(logits / config.logit_softcap) * config.logit_softcap
        return logits

    def transformed(self, hidden: Tensor) -> Tensor:
        """The dense layer before the head, where the model has one."""
        if self.transform is None or self.config.transform is None:
            return hidden
        hidden = self.ops.activation(self.ops.linear(hidden, self.transform), self.config.transform)
        return hidden if self.transform_norm is None else self.ops.norm(hidden, self.transform_norm)

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

    def _block(self, index: int) -> Block:
        block = self.blocks[index]
        assert isinstance(block, Block)
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

    def _relative(self) -> Tensor | None:
        """DeBERTa's table of relative positions, normed."""
        if self.embed_relative is None:
            return None
        table = self.embed_relative.weight
        return table if self.relative_norm is None else self.ops.norm(table, self.relative_norm)

    def _embedded(self, ids: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        config = self.config
        x = self.ops.embedding(ids, self.table)
        if config.embedding_scale != 1.0:
            x = x * torch.tensor(config.embedding_scale, dtype=x.dtype, device=x.device)
        if self.embed_types is not None:
            types = torch.zeros_like(ids) if types is None else types
            x = x + self.ops.embedding(types, self.embed_types)
        if config.positions != "none":
            x = x + self._position_vectors(positions + config.position_offset, x)
        if self.embed_norm is not None:
            x = self.ops.norm(x, self.embed_norm)
        return x if self.embed_project is None else self.ops.linear(x, self.embed_project)

    def _position_vectors(self, rows: Tensor, x: Tensor) -> Tensor:
        if self.embed_positions is not None:
            return self.ops.embedding(rows, self.embed_positions)
        halves = self.config.positions == "sinusoidal_halves"
        return sinusoids(rows, x.shape[-1], halves=halves).to(x.dtype)

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
        if types is not None and self.embed_types is not None:
            self._check_ids("token_type_ids", types, self.config.token_types)
        if self.config.positions == "learned" and ids.shape[1] > self.config.max_positions:
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
