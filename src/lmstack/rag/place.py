"""Where an index lives, as people write it: a folder, or the address of a PostgreSQL database.

Every command line and `Index.open` read a place with `index_place`. Does not open anything.
"""

from __future__ import annotations

import re
from pathlib import Path

from lmstack.core import InputError, shown
from lmstack.rag.stores.address import is_store_address

__all__ = ["index_place"]

_DATABASES = ("postgresql://", "postgres://")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def index_place(place: str | Path) -> str | Path:
    """``place`` as a folder, or unchanged if it is the address of a database. `InputError` for
    the address of anything else, which would otherwise become a folder of that name."""
    text = str(place)
    if isinstance(place, str) and place.startswith(_DATABASES):
        return place
    is_url = _URL.match(text) is not None or is_store_address(text)
    if not is_url or Path(text).exists():
        return Path(place)
    hint = "give a folder or postgresql://HOST/DATABASE; a store of vectors is named by --store"
    if isinstance(place, Path):
        hint = "give an address as a str: in a Path, two slashes become one"
    raise InputError(f"{shown(text)} names no index", hint=hint, param="index")
