"""How a model is asked: prompts with examples, chains of thought, answers of a given form."""

__all__ = ()
