"""What `lmstack up` says of its options before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstack.app import wiring
from lmstack.app.cli.commands._served_folder import served_folder
from lmstack.app.cli.commands.up import adapter_folders, engine_settings
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.wiring.tasks import Adapters
from lmstack.core import InputError


def test_names_and_folders_are_taken_as_given(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    found = adapter_folders([f"sql={tmp_path}", f"odd={odd}"], tmp_path)
    assert found == Adapters({"sql": tmp_path, "odd": odd}, tmp_path)
    assert adapter_folders([str(odd)], None).named == {"a=b": odd}
    assert not adapter_folders([], None)
    assert adapter_folders([], tmp_path)


@pytest.mark.parametrize("given", [["sql"], ["=x"], ["sql="], ["sql=.", "sql=."], ["sql=nowhere"]])
def test_what_names_no_folder_once_is_refused(given: list[str]) -> None:
    with pytest.raises(CommandLineError):
        adapter_folders(given, None)


def test_a_model_elsewhere_takes_no_adapters(tmp_path: Path) -> None:
    adapters = Adapters({"sql": tmp_path})
    with pytest.raises(InputError, match="--adapter is for a model on this machine"):
        wiring.require_models("openai:gpt", None, adapters=adapters)


def test_memory_for_adapters_is_a_setting_of_the_engine() -> None:
    assert engine_settings(None, None, [], None, 0.5) == {"adapter_memory_bytes": 1 << 29}
    with pytest.raises(InputError, match="adapter-memory"):
        engine_settings(None, None, [], None, -1)


def test_a_model_is_served_beside_no_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path))
    assert served_folder(None, None, names_models=True) is None
    assert list(wiring.no_documents().iterdir()) == []
