"""Native CPU ops in C, compiled when the package is installed. README.md here is their guide."""

from lmstack.engine.cpu.library import (
    available_paths,
    problem,
    select_path,
    selected_path,
)

__all__ = ["available_paths", "problem", "select_path", "selected_path"]
