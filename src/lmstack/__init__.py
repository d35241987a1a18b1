"""lmstack: a language model from raw text to a served, guarded, evaluated answer."""

__version__ = "0.1.0"
