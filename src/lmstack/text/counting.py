"""How many tokens texts have, for tokenizers that never look beyond a word or a sign.

BERT's tokenizers part a text at white space and around every sign of ASCII before they look into
it. Tokens of such pieces add up to those of the text, and most pieces have been seen before, so
each is encoded once and remembered. Covers counting and when that is so; encoding is
`tokenizer`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

__all__ = ["PieceCounter", "counts_by_piece", "counts_by_word"]

_SIGNS = r"!-/:-@\[-`{-~"
_SIGN = re.compile(f"[{_SIGNS}]")
# Pieces remembered, none longer than so many characters: about 20 MB.
_MAX_PIECES, _LONGEST = 200_000, 64


def counts_by_word(spec: Mapping[str, Any]) -> bool:
    """Whether the words of a text (between spaces, tabs and line ends) have as many tokens as
    the text, whatever it is. ``spec``: the value of tokenizer.json."""
    parts = [(spec.get(name) or {}).get("type") for name in ("pre_tokenizer", "normalizer")]
    return (
        spec["model"].get("type") == "WordPiece"
        and parts[0] == "BertPreTokenizer"
        and parts[1] in ("BertNormalizer", None)
        and all(
            not (token["lstrip"] or token["rstrip"] or any(map(str.isspace, token["content"])))
            for token in spec["added_tokens"]
        )
    )


def counts_by_piece(spec: Mapping[str, Any]) -> bool:
    """Whether the same holds for what stands between signs: added tokens must be found as they
    are written, and begin with a sign if they hold one."""
    return counts_by_word(spec) and all(
        not (token["normalized"] or token["single_word"])
        and (_SIGN.match(token["content"]) or not _SIGN.search(token["content"]))
        for token in spec["added_tokens"]
    )


class PieceCounter:
    """Counts tokens by pieces. ``encoded`` gives the number of tokens of each text, none added;
    ``added_tokens`` are the texts of those that the tokenizer looks for. Thread-safe."""

    def __init__(
        self, encoded: Callable[[Sequence[str]], list[int]], added_tokens: Sequence[str]
    ) -> None:
        self._encoded = encoded
        first = sorted((token for token in added_tokens if _SIGN.match(token)), key=len)
        names = [re.escape(token) for token in reversed(first)]
        pieces = "|".join([*names, f"[{_SIGNS}]", f"[^ \\t\\n\\r{_SIGNS}]+"])
        self._pieces = re.compile(pieces).findall
        self._known: dict[str, int] = {}

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, none added."""
        split = [self._pieces(text) for text in texts]
        known = self._known
        if len(known) > _MAX_PIECES:
            # Another thread may still be reading the old one.
            known = self._known = {}
        missing = [p for p in dict.fromkeys(chain.from_iterable(split)) if p not in known]
        if not missing:
            return [sum(map(known.__getitem__, pieces)) for pieces in split]
        new = dict(zip(missing, self._encoded(missing), strict=True))
        known.update((piece, n) for piece, n in new.items() if len(piece) <= _LONGEST)
        return [sum([new[p] if p in new else known[p] for p in pieces]) for pieces in split]
