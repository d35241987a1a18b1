"""Landlock: what its first versions leave open, the filter and the supervisor hold shut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig, landlocked
from lmstack.agents.sandbox.inside.landlock import version
from lmstack.agents.sandbox.landlocked import Landlock

CHANGES = """
import os, sys
path, outside = sys.argv[1:]
for act in (
    lambda: os.open(path, os.O_RDONLY | os.O_TRUNC), lambda: os.truncate(path, 0),
    lambda: open(path, "w"), lambda: open(path, "a").write("x"), lambda: os.unlink(path),
    lambda: os.rename(path, path + "x"), lambda: os.link(path, "mine"),
    lambda: os.rename(path, "mine"), lambda: os.chmod(path, 0o777), lambda: os.utime(path, (1, 1)),
    lambda: os.chown(path, 65534, 65534), lambda: open(path + "x", "w"),
    lambda: os.mkdir(path + "x"), lambda: print(open(outside).read()),
    lambda: print(os.listdir(os.path.dirname(outside))), lambda: os.chmod(outside, 0o777),
):
    try:
        act()
    except OSError:
        pass
os.mkdir("a"), os.mkdir("b")
open("a/x", "w").write("moved")
try:
    os.rename("a/x", "b/x")
except OSError as error:
    print(type(error).__name__)
print(open(path).read())
"""


@pytest.mark.parametrize("known", range(1, 8))
def test_no_version_lets_a_file_be_changed_that_can_be_read(tmp_path: Path, known: int) -> None:
    made_or_skipped(isolation="landlock")
    if version() < known:
        pytest.skip(f"this kernel has Landlock {version()}")
    packages, outside = tmp_path / "packages", tmp_path / "outside"
    for folder in (packages, outside):
        folder.mkdir()
        (folder / "file").write_text("as it was")
        (folder / "file").chmod(0o600)
        os.utime(folder / "file", (10**9, 10**9))
    sandbox = Sandbox(SandboxConfig(packages=(str(packages),)), isolation="landlock")
    sandbox._kinds = [Landlock(known)]
    assert sandbox.isolation == "landlock"
    done = sandbox.run(CHANGES, [str(packages / "file"), str(outside / "file")])
    moved = ["OSError"] if known == 1 else []  # it never lets a file be moved between folders
    assert done.stdout.decode().split("\n")[:-1] == [*moved, "as it was"], done
    for folder in (packages, outside):
        found = (folder / "file").stat()
        assert (found.st_mode & 0o777, found.st_mtime, found.st_uid) == (0o600, 10**9, os.getuid())
        assert (folder / "file").read_text() == "as it was"
        assert os.listdir(folder) == ["file"]


def test_nothing_of_a_sandbox_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = made_or_skipped(isolation="landlock")
    monkeypatch.setattr(landlocked.tempfile, "tempdir", str(tmp_path))
    deep = "import os\nfor _ in range(300):\n    os.mkdir('d' * 90, 0)\n    os.chdir('d' * 90)"
    sandbox.run("open('x', 'w').write('x')\n" + deep)
    with sandbox.session(files={"a/b": b"x"}) as session:
        session.run("open('y', 'w').write('y')\n" + deep)
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
