"""Models on disk: the store, where they come from, what they are, loading them."""

from lmstack.registry.card import Card, FileFacts, ModelFolder, content_digest
from lmstack.registry.home import home, locked
from lmstack.registry.known import KNOWN, Known
from lmstack.registry.load import GenerationDefaults, LoadedModel, Pooling, load
from lmstack.registry.refs import HubRef, NameRef, PathRef, PypiRef, parse_ref
from lmstack.registry.store import Broken, Store

__all__ = [
    "KNOWN",
    "Broken",
    "Card",
    "FileFacts",
    "GenerationDefaults",
    "HubRef",
    "Known",
    "LoadedModel",
    "ModelFolder",
    "NameRef",
    "PathRef",
    "Pooling",
    "PypiRef",
    "Store",
    "content_digest",
    "home",
    "load",
    "locked",
    "parse_ref",
]
