"""Names that are imported when they are used."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

PACKAGE = """\
from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from planted_names.home import kept, renamed as other
    from planted_names.home import hidden

__all__ = ["gone", "kept", "other"]

__getattr__, __dir__ = lazy_names(__name__)
"""
HOME = "kept, renamed, hidden = [1], [2], [3]\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "planted_names"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "home.py").write_text(HOME)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("planted_names", "planted_names.home"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "planted_names"


def test_a_name_is_imported_when_it_is_used_and_stays(package: str) -> None:
    module = importlib.import_module(package)
    assert f"{package}.home" not in sys.modules
    assert module.kept == [1]
    assert module.kept is sys.modules[f"{package}.home"].kept
    assert vars(module)["kept"] is module.kept


def test_a_name_may_be_another_one_at_home(package: str) -> None:
    assert importlib.import_module(package).other == [2]


def test_all_names_are_listed_before_any_is_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert dir(module) == ["gone", "kept", "other"]
    assert f"{package}.home" not in sys.modules


@pytest.mark.parametrize("name", ["hidden", "gone", "renamed", "never"])
def test_what_is_not_public_or_has_no_home_is_no_attribute(package: str, name: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module 'planted_names' has no attribute '{name}'"):
        getattr(module, name)
