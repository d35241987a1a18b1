"""Where lmstack keeps what it downloads and builds: `$LMSTACK_HOME` or the platform's data folder.

Covers the location only. Nothing is created here and nothing heavy is imported, so the command
line can name the folder (in `doctor`, in a crash report) without loading torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """The folder of this user's models, indexes and audit logs, absolute; it may not exist yet."""
    chosen = os.environ.get("LMSTACK_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "lmstack"
