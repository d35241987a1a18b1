"""Online training: prompts to samples to rewards to advantages. See `protocol` for its seams."""

__all__ = ()
