"""LoRA and DoRA: adapters added, merged, saved, and many at once."""

__all__ = ()
