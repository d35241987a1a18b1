"""Files of models: Hugging Face folders, GGUF, ONNX, and weights used through a memory map."""

__all__ = ()
