"""From logits to tokens: logits processors, the sampler, beam and contrastive search."""

__all__ = ()
