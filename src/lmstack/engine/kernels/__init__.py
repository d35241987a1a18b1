"""Native CPU ops in C, compiled when the package is installed. README.md here is their guide."""

__all__: list[str] = []
