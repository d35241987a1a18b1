"""Where lmstack keeps things, on each system."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstack.core import StoreError
from lmstack.registry import home


@pytest.mark.parametrize(
    ("platform", "settings", "place"),
    [
        ("linux", {}, "/home/of-mine/.local/share/lmstack"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/lmstack"),
        ("linux", {"XDG_DATA_HOME": ""}, "/home/of-mine/.local/share/lmstack"),
        ("linux", {"XDG_DATA_HOME": "/data", "LMSTACK_HOME": "~/x"}, "/home/of-mine/x"),
        ("linux", {"LMSTACK_HOME": ""}, "/home/of-mine/.local/share/lmstack"),
        ("darwin", {"XDG_DATA_HOME": "/data"},
         "/home/of-mine/Library/Application Support/lmstack"),
        ("win32", {}, "/home/of-mine/AppData/Local/lmstack"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/lmstack"),
    ],
)  # fmt: skip
def test_home_is_where_the_system_keeps_data_or_where_it_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, platform: str, settings: dict[str, str], place: str
) -> None:
    for name in ("LMSTACK_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/of-mine")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert home() == Path(place)


def test_home_is_absolute_and_one_of_a_user_without_any_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMSTACK_HOME", "x/y")
    assert home() == tmp_path / "x" / "y"
    monkeypatch.setenv("LMSTACK_HOME", "~nobody-at-all/x")
    with pytest.raises(StoreError, match="no home folder is known for ~nobody-at-all in ~nobody"):
        home()
