"""Releases of tiny random models, and an alias that is moved among them as a gate would do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tests.registry.releases import verdict
from tests.serve.tiny_models import tiny_decoder
from tests.train.runs import TEMPLATE, TEXTS

from lmstack.registry.aliases import Aliases
from lmstack.registry.releases import Release
from lmstack.serve import LocalModel
from lmstack.text import ChatTemplate, Tokenizer, VocabularyConfig, train_tokenizer

__all__ = ["TinyRelease", "move_to", "tiny_releases"]


@dataclass(frozen=True)
class TinyRelease:
    """``texts``: what it answers to prompts, greedily."""

    release: Release
    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        return self.release.digest

    @property
    def folder(self) -> Path:
        return Path(self.release.model)


def tiny_releases(folder: Path, names: str, prompts: Mapping[str, int]) -> list[TinyRelease]:
    """One for each letter of ``names``. ``prompts``: with the tokens to write to each."""
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300))
    template = ChatTemplate(TEMPLATE)
    return [
        _made(folder / f"tiny-{name}", tokenizer, template, ord(name), prompts) for name in names
    ]


def _made(
    folder: Path,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    seed: int,
    prompts: Mapping[str, int],
) -> TinyRelease:
    made = tiny_decoder(tokenizer, template=template, seed=seed, layers=1)
    made.save(folder)
    with LocalModel.load(folder, weights="float32") as model:
        texts = {
            prompt: model.generate(prompt, max_tokens=most, temperature=0, ignore_eos=True)
            for prompt, most in prompts.items()
        }
        digest = model.info.digest
    assert digest is not None
    return TinyRelease(Release(str(folder), digest, "float32"), texts)


def move_to(
    tiny: TinyRelease, alias: str = "prod", *, digest: str | None = None, decision: str = "PROMOTE"
) -> None:
    """Let the gate promote it, or say another ``decision``. ``digest``: that the release claims to
    have."""
    aliases = Aliases()
    now = aliases.read(alias).release if aliases.has(alias) else None
    release = replace(tiny.release, digest=digest or tiny.digest)
    baseline = None if now is None else now.digest
    aliases.record(
        replace(verdict(), alias=alias, release=release, baseline=baseline, decision=decision)
    )
