"""Conditions of other people's machines, to run commands under: a locale, a umask, no compiler.

Each changes the environment of a process, or puts a command in front of it; nothing outside the
process changes. `check` asks in that process whether the condition holds, since one that does not
hold proves nothing. For Linux. A read-only home and a `localhost` of IPv6 alone are mounts in a
namespace of their own, so they need root or unprivileged user namespaces.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CONDITIONS", "Condition", "Setting", "check", "combine"]

COMPILER = re.compile(r"(.+-)?(cc|c\+\+|gcc|g\+\+|clang|clang\+\+|cpp|c89|c99|tcc)(-[\d.]+)?")
LOCALE_VARIABLES = ("LANG", "LANGUAGE", "LOCPATH", "PYTHONUTF8", "PYTHONIOENCODING")
# "$1" is bound over "$2", read-only, in the namespace of the command that follows.
BIND = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 125; shift 2; exec "$@"'
UNPRIVILEGED = [] if os.geteuid() == 0 else ["--map-root-user"]


@dataclass
class Setting:
    """How commands run: their environment, words in front of each, and a umask (-1: as it is).

    ``columns``: the width of their terminal (0: none). ``without_ipv4``: try the server in a
    network that has no IPv4 at all, too.
    """

    scratch: Path
    env: dict[str, str]
    clone: str = "lmstack"
    before: list[str] = field(default_factory=list)
    umask: int = -1
    columns: int = 0
    without_ipv4: bool = False

    def bind(self, source: Path, target: Path) -> None:
        """Let ``target`` show ``source``, read-only."""
        unshare = ["unshare", *UNPRIVILEGED, "--mount"]
        self.before += [*unshare, "sh", "-c", BIND, "sh", str(source), str(target)]


@dataclass(frozen=True)
class Condition:
    """``holds`` is an expression of Python that is true in a process under the condition."""

    meaning: str
    apply: Callable[[Setting], None]
    holds: str


def _locale(name: str, charmap: str = "") -> Callable[[Setting], None]:
    """``charmap``: the encoding that the locale is compiled for; "" where it is always there."""

    def apply(setting: Setting) -> None:
        for variable in [n for n in setting.env if n.startswith("LC_") or n in LOCALE_VARIABLES]:
            del setting.env[variable]
        setting.env["LC_ALL"] = name
        if not charmap:
            return
        setting.env["LOCPATH"] = str(setting.scratch / "locales")
        compiled = setting.scratch / "locales" / name
        compiled.parent.mkdir()
        source = ["-i", name.partition(".")[0], "-f", charmap]
        done = subprocess.run(
            ["localedef", "--no-archive", *source, str(compiled)], capture_output=True, text=True
        )
        if not compiled.exists():
            raise SystemExit(
                f"localedef cannot compile the locale {name}: {done.stderr.strip()}\n"
                "try: apt-get install locales"
            )

    return apply


def _time_zone(setting: Setting) -> None:
    setting.env["TZ"] = "Pacific/Auckland"


def _umask(setting: Setting) -> None:
    setting.umask = 0o077


def _read_only_home(setting: Setting) -> None:
    home = setting.scratch / "read-only"
    home.mkdir()
    setting.env["HOME"] = str(home)
    setting.bind(home, home)


def _no_compiler(setting: Setting) -> None:
    """In place of PATH, one folder of links to all its programs but the compilers."""
    programs = setting.scratch / "programs"
    programs.mkdir()
    for folder in setting.env["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*") if folder else ():
            link = programs / program.name
            if not COMPILER.fullmatch(program.name) and not link.is_symlink():
                link.symlink_to(program)
    setting.env["PATH"] = str(programs)
    setting.env.pop("CC", None)


def _spaces(setting: Setting) -> None:
    setting.clone = "Größe und Maß/lmstack hier"
    setting.env["LMSTACK_HOME"] = str(setting.scratch / "Größe und Maß" / "Modelle hier")


def _narrow(setting: Setting) -> None:
    setting.columns = 40
    setting.env["COLUMNS"] = "40"


def _ipv6(setting: Setting) -> None:
    """127.0.0.1 stays: Linux gives it to every loopback device, IPv6 alone or not."""
    hosts = setting.scratch / "hosts"
    lines = Path("/etc/hosts").read_text(encoding="utf-8").splitlines()
    others = [line for line in lines if "localhost" not in line.split("#")[0].split()[1:]]
    hosts.write_text("\n".join(["::1 localhost", *others, ""]), encoding="utf-8")
    setting.bind(hosts, Path("/etc/hosts"))
    setting.without_ipv4 = True


def _empty_cache(setting: Setting) -> None:
    setting.env["LMSTACK_TEST_HOME"] = str(setting.scratch / "test-store")


def _background(setting: Setting) -> None:
    setting.before += ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]


def _one_core(setting: Setting) -> None:
    setting.before += ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]


CONDITIONS = {
    "c": Condition("the locale C", _locale("C"), "os.environ['LC_ALL'] == 'C'"),
    "german": Condition(
        "the locale de_DE in ISO 8859-1",
        _locale("de_DE", "ISO-8859-1"),
        "locale.setlocale(locale.LC_ALL, '') and locale.getencoding() == 'ISO-8859-1'",
    ),
    "german-utf8": Condition(
        "the locale de_DE.UTF-8",
        _locale("de_DE.UTF-8", "UTF-8"),
        "locale.setlocale(locale.LC_ALL, '') and locale.localeconv()['decimal_point'] == ','",
    ),
    "auckland": Condition(
        "the time zone Pacific/Auckland", _time_zone, "time.localtime(0).tm_gmtoff == 12 * 3600"
    ),
    "umask": Condition("the umask 077", _umask, "os.umask(0o077) == 0o077"),
    "home": Condition(
        "a home that cannot be written",
        _read_only_home,
        "os.statvfs(os.path.expanduser('~')).f_flag & os.ST_RDONLY",
    ),
    "no-compiler": Condition(
        "no C compiler",
        _no_compiler,
        "not any(map(shutil.which, ['cc', 'gcc', 'clang', sysconfig.get_config_var('CC')"
        ".split()[0]]))",
    ),
    "spaces": Condition(
        "paths with spaces and umlauts", _spaces, "'Größe und Maß/' in os.getcwd()"
    ),
    "narrow": Condition(
        "a terminal 40 columns wide", _narrow, "os.get_terminal_size(1).columns == 40"
    ),
    "ipv6": Condition(
        "localhost as ::1 alone, and a server without any IPv4",
        _ipv6,
        "{found[4][0] for found in socket.getaddrinfo('localhost', 80)} == {'::1'}",
    ),
    "background": Condition(
        "started by a script in the background, so that Ctrl-C is ignored",
        _background,
        "signal.getsignal(signal.SIGINT) is signal.SIG_IGN",
    ),
    "empty-cache": Condition(
        "no model that tests pulled before",
        _empty_cache,
        "not os.path.exists(os.environ['LMSTACK_TEST_HOME'])",
    ),
    "one-core": Condition("one core", _one_core, "len(os.sched_getaffinity(0)) == 1"),
}
LOCALES = {"c", "german", "german-utf8"}
MODULES = "locale, os, shutil, signal, socket, sysconfig, time"


def combine(names: Sequence[str], scratch: Path, env: dict[str, str]) -> Setting:
    """The setting in which all of ``names`` hold. It keeps what it needs in ``scratch``."""
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown:
        raise SystemExit(f"no condition is called {unknown[0]!r}; they are {', '.join(CONDITIONS)}")
    if len(LOCALES.intersection(names)) > 1:
        raise SystemExit(f"{'+'.join(names)} names more than one locale")
    if "spaces" in names and {"c", "german"}.intersection(names):
        # Python 3.11 and 3.12 read the paths of an environment in the locale's encoding.
        raise SystemExit("a path with umlauts needs a locale in UTF-8: join spaces and german-utf8")
    setting = Setting(scratch, env)
    for name in names:
        CONDITIONS[name].apply(setting)
    return setting


def check(names: Sequence[str], run: Callable[[list[str]], int]) -> list[str]:
    """Those of ``names`` that do not hold where ``run`` runs a command and gives its exit code."""
    ask = f"import {MODULES}, sys; sys.exit(not eval(sys.argv[1]))"
    # Without `site`, which cannot read an environment in a folder with umlauts in every locale.
    python = [sys.executable, "-S", "-c", ask]
    return [name for name in names if run([*python, CONDITIONS[name].holds])]
