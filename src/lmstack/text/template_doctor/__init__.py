"""Whether a tokenizer and a chat template can be trained and served with."""

__all__ = ()
