"""Weights of models that were exported to ONNX."""

__all__ = ()
