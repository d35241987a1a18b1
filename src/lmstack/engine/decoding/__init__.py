"""From logits to tokens: logits processors, the sampler and beam search."""

__all__ = ()
