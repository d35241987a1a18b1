"""Where documented commands run: a home, a store and files of the names that the pages use.

The default models are real. What a page calls `my-model` is made here: small random classifiers,
and the default language model converted to a Hugging Face folder. Placeholders, written in
capitals, get the values of `PLACEHOLDERS`; everything else runs as typed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.training_inputs import write_training_inputs
from tests.published import LLAMA_3_8B

__all__ = ["PLACEHOLDERS", "Ended", "Newcomer", "build"]

PLACEHOLDERS = {
    "YOUR_FOLDER": "docs",
    "DIR": "docs",
    "NAME": "smollm2-135m-instruct",
    "MODEL": "smollm2-135m-instruct",
    "TASK": "embed",
    "N": "4",
    "T": "2048",
    "/srv/notes.idx": "srv.idx",
    "/mnt/docs": "docs",
}
# What `./my-model` is to each command.
MY_MODEL = {"classify": "my-sentiment-model"}
# What the pages call the run of an agent, a version of a prompt, and a release that is not served
# any more: those that the reader made.
RUN, VERSION, RELEASE = "3f2a91c0", "mood@3f2a91c", re.compile(r"(prod@|prod --to )3f2a91c\b")
FIRST_RUN = "lmstack agent run 'How much is 17 % of 2,340?'"
# A service says so when it is ready.
READY = (("--watch", "Watching "), ("mcp serve", "serving MCP at "), ("", "lmstack serves "))
# What of the checkout a reader has.
CHECKOUT = ("README.md", "LICENSE", "pyproject.toml", "setup.py", "constraints.txt")
FOLDERS = ("benchmarks", "docs", "examples", "recipes", "src")
LIMIT_S = 900
PLAN = """# Plan of the year

The backup schedule: every night at two o'clock the server copies its files to the second site.
What did we agree? We agreed that letters are kept for ten years, and parental leave for a year.

## Budget

The budget of 2025 is 40,000 euro. It was agreed in {month}.
"""
SIGNED = "---\ntags: [signed]\ndate: 2024-07-01\n---\n# Contract\n\nWe agreed to deliver in May.\n"


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``output`` and ``errors``: of its two streams."""

    code: int
    output: str
    errors: str = ""

    @property
    def said(self) -> str:
        return self.output + self.errors


class Newcomer:
    """One reader at work in ``folder``, with processes that end when the reader leaves."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.cwd = folder / "work"
        programs = str(Path(sys.executable).parent)
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("LMSTACK_", "PYTEST_"))},
            **variables,
            "HOME": str(folder / "home"),
            "LMSTACK_HOME": str(folder / "store"),
            "PATH": programs + os.pathsep + os.environ["PATH"],
            "COLUMNS": "100",
            # Downloads of packages are the caller's, or each reader would wait for them.
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache/pip")),
        }
        self._public: set[int] = set()
        self._services: dict[int, subprocess.Popen[bytes]] = {}
        self._log = folder / "service.log"

    def run(self, text: str) -> Ended:
        """``text`` in a shell, to its end. `export` holds for the commands that follow."""
        exported = re.fullmatch(r"export (\w+)=(.*)", text)
        if exported:
            self._env[exported[1]] = exported[2]
            return Ended(0, "")
        text = self._named(text)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
        )
        output, errors = (each.decode(errors="replace") for each in (done.stdout, done.stderr))
        return Ended(done.returncode, output, errors)

    def _named(self, text: str) -> str:
        """``text`` with this reader's models and digests where the pages name theirs."""
        for command, target in MY_MODEL.items():
            if f"run {command}" in text and "./my-model" in text:
                text = text.replace("./my-model", f"./{target}")
        if VERSION in text:
            prompts = self._listed("lmstack prompt list")["prompts"]
            digest = next(each["digest"] for each in prompts if each["name"] == "mood")
            text = text.replace(VERSION, f"mood@{digest.removeprefix('sha256:')[:12]}")
        elif RUN in text:
            self.run(FIRST_RUN)
            text = text.replace(RUN, self._listed("lmstack agent show")[0]["id"])
        elif RELEASE.search(text):
            events = self._listed("lmstack release list prod")
            digests = [each["release"]["digest"] for each in events]
            content, _, form = next(each for each in digests if each != digests[-1]).partition("+")
            text = RELEASE.sub(rf"\g<1>{content.removeprefix('sha256:')[:7]}+{form}", text)
        return text

    def _listed(self, text: str) -> Any:
        return json.loads(self.run(f"{text} --json").output)

    def program(self, source: str) -> Ended:
        """A Python program, in the environment that the commands see."""
        path = self.cwd / "program.py"
        path.write_text(source, encoding="utf-8")
        return self.run("python program.py")

    def serve(self, text: str) -> Ended:
        """``text`` until it says that it is ready; it then runs on, until its port is wanted."""
        text = self._named(text)
        port = int((re.search(r"--(?:port|http) (\d+)", text) or ["", "8000"])[1])
        self.leave(port)
        public, watches = "--host 0.0.0.0" in text, "--watch" in text
        ready = next(said for option, said in READY if option in text)
        if not public and not watches:
            _check_free(port)
        # A server for everybody listens in a network of its own, which nobody else can reach.
        alone = ["unshare", "--net", "--map-root-user"] if public else []
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [*alone, "bash", "-c", f"exec env {text}"],
                cwd=self.cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            said = self._log.read_text(encoding="utf-8", errors="replace")
            if ready in said:
                self._services[port] = process
                self._public = self._public - {port} | ({port} if public else set())
                return Ended(0, said)
            time.sleep(0.1)
        process.kill()
        return Ended(process.wait() or 1, self._log.read_text(encoding="utf-8", errors="replace"))

    @property
    def serving(self) -> bool:
        """A server answers at the default port, in a network that commands reach."""
        return 8000 in self._services.keys() - self._public

    def leave(self, *ports: int) -> list[int]:
        """Press Ctrl-C in the services of ``ports`` (all of them by default): their exit codes."""
        codes = []
        for port in ports or tuple(self._services):
            process = self._services.pop(port, None)
            if process is not None:
                process.send_signal(signal.SIGINT)
                try:
                    codes.append(process.wait(60))
                finally:
                    process.kill()
        return codes


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), (
            f"port {port} is taken by another program; these tests need it, as the pages name it"
        )


def build(folder: Path, root: Path, models: Path, speeches: list[Path]) -> None:
    """Everything that the pages name, below ``folder``. ``models``: a store with all models."""
    work, notes, team = folder / "work", folder / "home/notes", folder / "home/team"
    for each in (work, notes / "salaries", notes / "contracts", team / "salaries", team / "board"):
        each.mkdir(parents=True)
    shutil.copytree(models, folder / "store/models", copy_function=os.link)
    left_out = shutil.ignore_patterns("pictures", "results", "__pycache__", "*.so", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(root / name, work / name, ignore=left_out)
    for name in CHECKOUT:
        shutil.copy(root / name, work)
    _write_documents(notes, team)
    (work / "notes").symlink_to(notes)
    (work / ".venv").symlink_to(sys.prefix)
    _write_inputs(work)
    (work / "corpus").mkdir()
    for path in speeches:
        shutil.copy(path, work / "corpus")
    write_training_inputs(work)
    (work / "Llama-3-8B").mkdir()
    (work / "Llama-3-8B/config.json").write_text(json.dumps(LLAMA_3_8B))


def _write_documents(notes: Path, team: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    plan = PLAN.format(month="June")
    for path, text in {
        notes / "plan.md": plan,
        notes / "old.md": PLAN.format(month="May"),
        notes / "salaries/pay.md": "# Pay\n\nThe pay of the office is raised in May.\n",
        notes / "contracts/contract.md": SIGNED,
        team / "salaries/pay.md": "# Pay\n\nThe pay of the team is raised in June.\n",
        team / "board/minutes.md": "# Minutes\n\nThe board meets in the spring.\n",
    }.items():
        path.write_text(text, encoding="utf-8")
    canvas = Canvas(str(notes / "leave.pdf"))
    canvas.drawString(72, 720, "Parental leave: the budget allows twelve months of parental leave.")
    canvas.save()


def _write_inputs(work: Path) -> None:
    story = "Ada wrote the first program in 1843. The engine that it was for was never finished."
    lines = "What a film!\nI was bored to death.\n"
    rows = "".join(json.dumps(line) + "\n" for line in lines.splitlines())
    question = {"question": "Who wrote the program?", "context": story}
    for name, text in {
        "notes.txt": lines,
        "report.txt": story,
        "letter.txt": "Dear Anna, the house is wonderful. I like coffee.",
        "questions.txt": "How long are letters kept?\nWho pays?\n",
        "questions.jsonl": json.dumps(question) + "\n",
        "review.txt": "The soup was cold.",
        "system.txt": "You answer in one sentence.",
        "reviews.txt": lines,
        "reviews.jsonl": rows,
        "texts.txt": lines,
        "pairs.jsonl": rows,
    }.items():
        (work / name).write_text(text, encoding="utf-8")
    keys: dict[str, Any] = {"keys": [{"sha256": "ab" * 32, "owner": True}]}
    (work / "keys.json").write_text(json.dumps(keys))
