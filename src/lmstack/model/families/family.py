"""What a family of models is: how its config.json says what a `TransformerConfig` says, and where
its tensors are.

Most of it is data. `Family.read` and `Family.write` add what depends on several keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import FormatError, InputError, UnsupportedError, check_whole, shown
from lmstack.model.config import LayerKind, TransformerConfig, blamed_on
from lmstack.model.families.settings import Settings, read_settings, refuse, write_settings
from lmstack.model.fields import Fields
from lmstack.model.formats.layouts import Entry, Table

__all__ = [
    "AS_BODY",
    "LM",
    "NONE",
    "NO_ROPE",
    "SEQUENCE",
    "SPAN",
    "TOKEN",
    "Family",
    "decoder_heads",
    "in_blocks",
    "layer_kinds",
    "renamed",
    "with_derived",
]

_MOST_LAYERS = 1 << 16
# What architectures set.
LM: Mapping[str, Any] = {"head": "lm"}
NONE: Mapping[str, Any] = {"head": "none"}
SEQUENCE: Mapping[str, Any] = {"head": "sequence", "pooling": "last", "classifier_bias": False}
TOKEN: Mapping[str, Any] = {"head": "token"}
SPAN: Mapping[str, Any] = {"head": "span"}
# In the place of an activation: that of the body.
AS_BODY = "as body"
NO_ROPE = (LayerKind(rope=None),)
_LABELLED = ("sequence", "token")
# What a decoder does not share with its encoder.
_OF_DECODER = (
    *("head", "tie_embeddings", "head_bias", "logit_scale", "logit_softcap", "num_labels"),
    *("classifier_bias", "pooling", "transform", "transform_norm", "transform_bias"),
    *("encoder", "share_embeddings"),
)
Renames = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Family:
    """``heads``: architecture name to the config fields that it sets; the first one is assumed
    where a file names none. ``settings``: keys that say one field each; ``fixed``: fields of every
    model; ``refused``: keys that no field expresses, with the one value that they may have.
    ``read`` gives further fields, by the file and those read so far; ``write`` the keys that say
    them. ``num_labels``: of a classifier that names none.

    ``tensors``: where our tensors are in a file, in the language of `layouts`, or what gives
    that for a config; ``alternatives``: other entries, used where a file has their names.
    ``prefix`` stands before all names but those of heads in files of models with a head.
    ``ignored``: ends of names that carry no weights of ours. ``renames``: pattern and
    replacement, for each name of an older checkpoint. ``spellings``: a key of config.json, and
    the value of it under which files have other names, with the renames to those.
    ``optional_head``: tensors of the head may be missing. ``always_tied``: the output layer is
    the embedding table unless the file holds one, whatever its config says. ``decoder_start``:
    the token that begins an encoder-decoder's output where no file names one.
    """

    model_type: str
    heads: Mapping[str, Mapping[str, Any]]
    prefix: str
    tensors: Table | Callable[[TransformerConfig], Table]
    settings: Settings
    fixed: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Fields, Mapping[str, Any]], Mapping[str, Any]] = lambda _fields, _read: {}
    write: Callable[[TransformerConfig], Mapping[str, Any]] = lambda _config: {}
    num_labels: int = 2
    ignored: tuple[str, ...] = ()
    optional_head: bool = False
    always_tied: bool = False
    decoder_start: int | None = None
    alternatives: Table = field(default_factory=dict)
    renames: Renames = ()
    spellings: Mapping[str, tuple[object, Renames]] = field(default_factory=dict)

    def table(self, config: TransformerConfig) -> Table:
        """The table of ``tensors`` for ``config``."""
        return self.tensors(config) if callable(self.tensors) else self.tensors

    def spelled(self, name: str, config_json: Mapping[str, Any]) -> str:
        """``name`` as files with this config.json have it."""
        for key, (value, renames) in self.spellings.items():
            if config_json.get(key) == value:
                name = renamed(name, renames)
        return name

    def config(self, fields: Fields) -> TransformerConfig:
        """What ``fields`` of a config.json say. `FormatError`: they are damaged;
        `UnsupportedError`: they ask for what is not implemented."""
        with blamed_on(fields.source):
            return _built(self._values(fields))

    def _values(self, fields: Fields) -> dict[str, Any]:
        refuse(fields, **self.refused)
        values = dict(self.fixed) | read_settings(self.settings, fields)
        with_derived(values)
        values |= self._head(fields)
        values |= self.read(fields, values)
        if values.get("transform") == AS_BODY:
            values["transform"] = values["activation"]
        if values["head"] != "lm":
            values["tie_embeddings"] = False
        if values["head"] in _LABELLED:
            values.setdefault("num_labels", _labels(fields, self.num_labels))
        return values

    def _head(self, fields: Fields) -> Mapping[str, Any]:
        names = fields.get("architectures") or [next(iter(self.heads))]
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise FormatError(
                f"{fields.source}: architectures is {shown(names)}, not a list of names"
            )
        if names[0] not in self.heads:
            raise UnsupportedError(
                f"{fields.source}: architecture {shown(names[0])} is not implemented",
                hint=f"implemented for this type: {', '.join(self.heads)}",
            )
        return self.heads[names[0]]

    def config_json(self, config: TransformerConfig) -> dict[str, Any] | None:
        """A config.json that says exactly ``config``, None where this family has none."""
        for architecture, sets in self.heads.items():
            loses_head = self.optional_head and config.head == "none"
            if not loses_head and not _has(config, sets):
                continue
            written = self._written(config, architecture)
            with contextlib.suppress(InputError, FormatError, UnsupportedError):
                back = self.config(Fields(written, "config.json"))
                if loses_head:
                    back = back.replace(head="none", transform=None)
                if back == config:
                    return written
        return None

    def _written(self, config: TransformerConfig, architecture: str) -> dict[str, Any]:
        written: dict[str, Any] = {"architectures": [architecture], "model_type": self.model_type}
        written |= write_settings(self.settings, config)
        tie = self.settings.get("tie_embeddings")
        if tie is not None and config.head != "lm":
            written |= tie.write(tie.default)  # it does not matter where there is no output layer
        if config.head in _LABELLED:
            names = {str(i): f"LABEL_{i}" for i in range(config.num_labels)}
            written["id2label"] = names
            written["label2id"] = {name: int(i) for i, name in names.items()}
        return written | dict(self.write(config))


def _has(config: TransformerConfig, sets: Mapping[str, Any]) -> bool:
    return all(
        getattr(config, name) == (config.activation if value == AS_BODY else value)
        for name, value in sets.items()
    )


def _labels(fields: Fields, default: int) -> int:
    names = fields.nested("id2label")
    return fields.count("num_labels", len(names) if names else default)


def with_derived(values: dict[str, Any]) -> None:
    """Sizes that nothing says follow from the others."""
    heads, width = values["num_heads"], values["hidden_size"]
    sizes = {"num_kv_heads": heads, "head_dim": width // heads if heads else 0}
    sizes["intermediate_size"] = 4 * width
    values |= {name: size for name, size in sizes.items() if values.get(name) is None}
    # Lists of layers are made before the config is: a file that lies must not cost memory.
    check_whole("num_layers", values["num_layers"], 1, _MOST_LAYERS)


def _built(values: dict[str, Any]) -> TransformerConfig:
    """``encoder`` may be a mapping of the fields in which it differs from the decoder."""
    encoder = values.get("encoder")
    if isinstance(encoder, Mapping):
        shared = {k: v for k, v in values.items() if k not in _OF_DECODER}
        values["encoder"] = TransformerConfig(**{**shared, "head": "none", **encoder})
    return TransformerConfig(**values)


def decoder_heads(stem: str, *tasks: str, lm: str = "ForCausalLM") -> dict[str, Mapping[str, Any]]:
    """The architectures of a decoder family: the language model, the bare one, and ``tasks``."""
    known = {"Sequence": SEQUENCE, "Token": TOKEN}
    found = {f"{stem}{lm}": LM, f"{stem}Model": NONE}
    found |= {f"{stem}For{task}Classification": known[task] for task in tasks if task in known}
    return found | ({f"{stem}ForQuestionAnswering": SPAN} if "Span" in tasks else {})


def in_blocks(theirs: str, names: Table, ours: str = "blocks.{i}.") -> dict[str, Entry]:
    """Entries of a table for modules of a block: ``theirs`` stands before the names of files,
    ``ours`` before the paths of our modules."""

    def whole(name: Any) -> Any:
        if isinstance(name, tuple):
            return tuple(map(whole, name))
        if isinstance(name, str):
            return theirs + name
        return dataclasses.replace(name, name=theirs + name.name)

    return {ours + path: whole(name) for path, name in names.items()}


def renamed(name: str, renames: Renames) -> str:
    """``name`` after each pattern and replacement in turn."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def layer_kinds(layers: Sequence[LayerKind]) -> dict[str, Any]:
    """The fields ``kinds`` and ``pattern`` of layers given one by one, or of one for all."""
    kinds = tuple(dict.fromkeys(layers))
    pattern = tuple(map(kinds.index, layers)) if len(kinds) > 1 else ()
    return {"kinds": kinds, "pattern": pattern}
