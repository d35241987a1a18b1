"""Models on disk: the store, where they come from, what they are, loading them.

What loads a model is looked up when it is used, so that listing and pulling start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names
from lmstack.registry.card import Card, FileFacts, ModelFolder, content_digest
from lmstack.registry.home import home, locked
from lmstack.registry.refs import HubRef, NameRef, PathRef, PypiRef, parse_ref
from lmstack.registry.sampling_defaults import DEFAULT_SAMPLING, SamplingDefaults
from lmstack.registry.sources.known import KNOWN, PinnedModel
from lmstack.registry.store import Broken, Store

if TYPE_CHECKING:
    from lmstack.registry.defaults import GenerationDefaults, LateInteraction, Pooling
    from lmstack.registry.loading import LoadedModel, ModelText, load, load_text

__all__ = [
    "DEFAULT_SAMPLING",
    "KNOWN",
    "Broken",
    "Card",
    "FileFacts",
    "GenerationDefaults",
    "HubRef",
    "LateInteraction",
    "LoadedModel",
    "ModelFolder",
    "ModelText",
    "NameRef",
    "PathRef",
    "PinnedModel",
    "Pooling",
    "PypiRef",
    "SamplingDefaults",
    "Store",
    "content_digest",
    "home",
    "load",
    "load_text",
    "locked",
    "parse_ref",
]

__getattr__, __dir__ = lazy_names(__name__)
