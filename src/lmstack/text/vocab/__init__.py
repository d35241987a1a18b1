"""Vocabularies as models carry them, read into the JSON of ``tokenizer.json``."""

__all__ = ()
