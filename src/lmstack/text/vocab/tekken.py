"""Mistral's ``tekken.json`` to the JSON of ``tokenizer.json``.

Control tokens come first, then the vocabulary, cut to the size that the file states; a file that
lists no control tokens has those of version 3, and unnamed places are ``<SPECIAL_n>``. Does not
cover the image and audio settings beside the vocabulary.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.text.vocab.byte_level import byte_level_json

__all__ = ["is_tekken", "tekken_json"]

_UNLISTED = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]"),
    *("[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "[TOOL_CONTENT]",
)
_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def is_tekken(value: Mapping[str, Any]) -> bool:
    """Whether the value of a JSON file is a tekken vocabulary."""
    config = value.get("config")
    return isinstance(value.get("vocab"), list) and isinstance(config, dict) and "pattern" in config


def tekken_json(value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of tokenizer.json and tokenizer_config.json for that of ``tekken.json``."""
    try:
        config = value["config"]
        count, size = int(config["default_num_special_tokens"]), int(config["default_vocab_size"])
        listed = value.get("special_tokens")
        names = (
            {int(token["rank"]): str(token["token_str"]) for token in listed}
            if listed is not None
            else dict(enumerate(_UNLISTED))
        )
        ranks = {
            base64.b64decode(token["token_bytes"]): int(token["rank"])
            for token in value["vocab"][: size - count]
        }
        pattern = str(config["pattern"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"the tekken file is not as it should be: {shown(str(error))}",
            hint="download tekken.json again",
        ) from error
    if not 0 <= count < 100_000 or sorted(ranks.values()) != list(range(len(ranks))):
        raise FormatError(
            "the tokens of the tekken file are not numbered one after another",
            hint="download tekken.json again",
        )
    special = {names.get(index, f"<SPECIAL_{index}>"): index for index in range(count)}
    spec = byte_level_json(ranks, pattern, special, first_id=count)
    roles = {role: name for role, name in _ROLES.items() if name in special}
    return spec, {"clean_up_tokenization_spaces": False, **roles}
