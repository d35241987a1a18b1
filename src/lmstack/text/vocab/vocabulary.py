"""The vocabulary of a folder or file, whichever kind it is, as a tokenizer's parts.

Covers ``tokenizer.json``, SentencePiece ``.model``, tiktoken files, ``tekken.json``, ``vocab.json``
with ``merges.txt`` and ``vocab.txt``, each recognized by what is in it and not by its name alone,
and their companions (``tokenizer_config.json``, ``special_tokens_map.json``,
``added_tokens.json``). Does not cover GGUF files, whose metadata the caller has read already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown
from lmstack.text.files import decoded, file_bytes, json_object, text_file
from lmstack.text.vocab.exact import Exact
from lmstack.text.vocab.sentencepiece import (
    SentencePiece,
    is_sentencepiece,
    read_sentencepiece,
    sentencepiece_parts,
)
from lmstack.text.vocab.tekken import is_tekken, tekken_json
from lmstack.text.vocab.tiktoken import TiktokenEncoding, is_tiktoken, tiktoken_json
from lmstack.text.vocab.tokenizer_json import added_token, post_processor
from lmstack.text.vocab.word_files import byte_level_files_json, wordpiece_json, wordpiece_tokens

__all__ = ["EXACT_KEY", "Vocabulary", "read_file", "read_folder"]

# tokenizer_config.json names the file from which a saved folder is read again, to the last id.
EXACT_KEY = "lmstack_vocabulary"
_COMPANIONS = ("special_tokens_map.json", "tokenizer_config.json")
_FILES = (
    *("tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model", "spm.model"),
    *("sentencepiece.bpe.model", "vocab.json", "vocab.txt"),
)
_PATTERNS = ("*.model", "*.spm", "*.tiktoken", "tekken*.json")
# What the model's own tokenizer puts around a text: (before, after) by role.
_FRAMES = {
    "Llama": (("bos_token",), ()),
    "Gemma": (("bos_token",), ()),
    "T5": ((), ("eos_token",)),
    "MT5": ((), ("eos_token",)),
    "DebertaV2": (("cls_token",), ("sep_token",)),
    "Albert": (("cls_token",), ("sep_token",)),
    "BigBird": (("cls_token",), ("sep_token",)),
}
_DEFAULTS = {
    "DebertaV2": {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "Albert": {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "BigBird": {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
}
# Their models number tokens otherwise than the file does.
_RENUMBERED = (
    *("XLMRoberta", "Camembert", "MBart", "MBart50", "Barthez", "NLLB", "Nllb", "XGLM"),
    *("M2M100", "Pegasus", "Marian", "XLNet", "Speech2Text", "SeamlessM4T"),
)


@dataclass(frozen=True)
class Vocabulary:
    """``spec``: the value of tokenizer.json; ``config``: of tokenizer_config.json; ``exact``:
    what takes its place in memory, where the format cannot say it all."""

    spec: Mapping[str, Any]
    config: Mapping[str, Any]
    exact: Exact | None = None


def read_folder(folder: Path) -> Vocabulary:
    """The vocabulary of a model folder. ``tokenizer.json`` comes first, as for everybody."""
    config: dict[str, Any] = {}
    for name in _COMPANIONS:
        companion = text_file(folder / name)
        values = json_object(companion, folder / name) if companion is not None else {}
        config.update({key: value for key, value in values.items() if value is not None})
    exact = config.get(EXACT_KEY)
    if isinstance(exact, str) and Path(exact).name == exact and (folder / exact).is_file():
        return _read(folder / exact, config, None)
    found = [folder / name for name in _FILES if (folder / name).is_file()]
    for pattern in _PATTERNS if not found else ():
        found += sorted(folder.glob(pattern))
    if not found:
        raise NotFoundError(
            f"{folder} has no vocabulary",
            hint=f"looked for: {', '.join((*_FILES, '*.tiktoken'))}; others convert with"
            " transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    return _read(found[0], config, None)


def read_file(path: Path, encoding: str | TiktokenEncoding | None = None) -> Vocabulary:
    """The vocabulary of one file; ``encoding`` is for tiktoken files, see `tiktoken_json`."""
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}", hint="give the path of a vocabulary")
    return _read(path, {}, encoding)


def _read(
    path: Path, config: dict[str, Any], encoding: str | TiktokenEncoding | None
) -> Vocabulary:
    data = file_bytes(path)
    if encoding is not None or is_tiktoken(data):
        spec, roles = tiktoken_json(data, encoding, str(path))
        found = Vocabulary(spec, {**roles, **config})
    elif path.suffix == ".json":
        found = _from_json(path, json_object(decoded(data, path), path), config)
    elif path.suffix == ".txt":
        tokens = wordpiece_tokens(decoded(data, path))
        found = Vocabulary(*wordpiece_json(tokens, config))
    elif is_sentencepiece(data):
        found = _from_sentencepiece(data, config)
    else:
        raise FormatError(
            f"{path} is no vocabulary that is known here",
            hint="known: tokenizer.json, SentencePiece models, tiktoken files, tekken.json,"
            " vocab.json with merges.txt, vocab.txt",
        )
    return found if path.name == "tokenizer.json" else _with_added(found, path.parent)


def _from_json(path: Path, value: dict[str, Any], config: dict[str, Any]) -> Vocabulary:
    if is_tekken(value):
        spec, roles = tekken_json(value)
        return Vocabulary(spec, {**roles, **config})
    if isinstance(value.get("model"), dict) or path.name == "tokenizer.json":
        return Vocabulary(value, config)
    merges = text_file(path.with_name("merges.txt"))
    if merges is None:
        raise UnsupportedError(
            f"{path} is a word list without merges.txt",
            hint="a byte-level vocabulary needs both files",
        )
    return Vocabulary(*byte_level_files_json(value, merges, config))


def _from_sentencepiece(data: bytes, config: Mapping[str, Any]) -> Vocabulary:
    name = str(config.get("tokenizer_class", ""))
    family = name.removesuffix("Fast").removesuffix("Tokenizer")
    if family in _RENUMBERED:
        raise UnsupportedError(
            f"a {name} numbers its tokens otherwise than its SentencePiece model does",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes a"
            " tokenizer.json",
        )
    model = read_sentencepiece(data)
    spec, exact = sentencepiece_parts(model)
    full = {**(model.roles or {}), **_DEFAULTS.get(family, {}), **config}
    full.setdefault("clean_up_tokenization_spaces", False)
    around = _around(model, family, full)
    extra = _sentinels(model, full) if family in ("T5", "MT5") else []
    spec = _extended({**spec, "post_processor": around}, extra)
    if exact is not None:
        exact = dataclasses.replace(
            exact,
            spec=_extended({**exact.spec, "post_processor": around}, extra),
            files={"tokenizer.model": data},
        )
    return Vocabulary(spec, full, exact)


def _around(model: SentencePiece, family: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    ids = {piece: index for index, piece in enumerate(model.pieces)}
    first, last = _FRAMES.get(family, ((), ()))
    if "sep_token" not in last:
        for flag, role in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")):
            chosen = config.get(flag)
            if chosen is None:
                continue
            if role == "bos_token":
                first = (role,) if chosen else ()
            else:
                last = (role,) if chosen else ()
    before, after = (
        [name for role in roles if (name := _name(config.get(role))) in ids]
        for roles in (first, last)
    )
    bert = "sep_token" in last
    return post_processor(
        ids, before=before, after=after, between=after if bert else None, second_type=int(bert)
    )


def _sentinels(model: SentencePiece, config: Mapping[str, Any]) -> list[str]:
    """T5's ``<extra_id_99>`` to ``<extra_id_0>``, which follow the pieces of the file."""
    count = config.get("extra_ids", 100)
    names = [f"<extra_id_{n}>" for n in range(count)] if isinstance(count, int) else []
    known = set(model.pieces)
    return [name for name in reversed(names) if name not in known]


def _extended(spec: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """``spec`` with control tokens after its last one."""
    size = len(spec["model"]["vocab"])
    more = [added_token(size + rank, name) for rank, name in enumerate(names)]
    return {**spec, "added_tokens": [*spec["added_tokens"], *more]}


def _with_added(found: Vocabulary, folder: Path) -> Vocabulary:
    """Tokens that were added after training: ``added_tokens_decoder`` of the configuration and
    ``added_tokens.json``."""
    listed: dict[str, tuple[int, bool]] = {}
    text = text_file(folder / "added_tokens.json")
    older = json_object(text, folder / "added_tokens.json") if text is not None else {}
    listed |= {name: (index, True) for name, index in older.items() if isinstance(index, int)}
    newer = found.config.get("added_tokens_decoder")
    for index, token in newer.items() if isinstance(newer, Mapping) else ():
        if (name := _name(token)) and str(index).isdigit():
            special = bool(token.get("special", True)) if isinstance(token, Mapping) else True
            listed[name] = (int(index), special)
    if not listed:
        return found
    exact = found.exact
    if exact is not None:
        exact = dataclasses.replace(exact, spec=_with_tokens(exact.spec, listed))
    return dataclasses.replace(found, spec=_with_tokens(found.spec, listed), exact=exact)


def _with_tokens(
    spec: Mapping[str, Any], listed: Mapping[str, tuple[int, bool]]
) -> Mapping[str, Any]:
    vocabulary = spec["model"]["vocab"]
    rows = vocabulary.items() if isinstance(vocabulary, dict) else enumerate(vocabulary)
    ids = dict(rows) if isinstance(vocabulary, dict) else {row[0]: i for i, row in rows}
    known = {token["content"]: token["id"] for token in spec["added_tokens"]}
    taken = {index: name for name, index in ids.items()} | {i: name for name, i in known.items()}
    added = list(spec["added_tokens"])
    for name, (index, special) in sorted(listed.items(), key=lambda item: item[1]):
        if taken.get(index, name) != name or ids.get(name, index) != index:
            raise FormatError(
                f"the added token {shown(name)} has the id {index}, which is"
                f" {shown(taken.get(index, ''))} in the vocabulary",
                hint="these files do not belong together: download the model again",
            )
        if name not in known:
            added.append(added_token(index, name, special=special))
    if isinstance(vocabulary, dict):
        # Listed there too, so that the library keeps the numbers where they have gaps.
        more = {name: index for name, (index, _) in listed.items() if name not in ids}
        spec = {**spec, "model": {**spec["model"], "vocab": {**vocabulary, **more}}}
    return {**spec, "added_tokens": added}


def _name(value: object) -> str:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""
