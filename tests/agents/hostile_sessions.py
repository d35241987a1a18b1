"""Programs that try to get out of a session, to hang it, to fill the machine, or to fool its user.

Each is Python after some definitions, of which ``attempt`` prints ESCAPED where what must be
refused was not. Names in angle brackets stand for things outside that are watched
(`outside.Outside`). Programs whose ``plain`` is set are harmless without a sandbox and succeed
there, which shows that the watch notices it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROGRAMS", "Hostile"]

_MODULES = ("ctypes", "os", "signal", "socket", "subprocess", "sys", "threading", "time")
_C = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def called(function, *arguments):
    if function(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
def syscall(*arguments):
    called(libc.syscall, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
"""
_DEFINITIONS = """
def attempt(name, act):
    try:
        result = act()
    except Exception as error:
        print("refused", name, type(error).__name__)
    else:
        print("ESCAPED", name, repr(result)[:80])
def until_refused(act, most=200_000):
    for number in range(most):
        try:
            act(number)
        except (OSError, MemoryError) as error:
            return number, type(error).__name__
    print("ESCAPED: done", most, "times")
"""

_OVER_TIME = ("time",)
_DEAD = ("killed",)
_FULL = ("ok", "error", "killed", "memory", "time")


@dataclass(frozen=True)
class Hostile:
    """``ends``: how the call may end. ``next_ends``: how the call after it may; the one after that
    has to work."""

    code: str
    ends: tuple[str, ...] = ("ok", "error")
    plain: bool = False
    next_ends: tuple[str, ...] = ("ok",)

    @property
    def program(self) -> str:
        """The code with what it uses."""
        imports = [f"import {name}" for name in _MODULES if f"{name}." in self.code]
        calls = _C if "libc." in self.code or "syscall(" in self.code else ""
        return "\n".join([*imports, calls, _DEFINITIONS, self.code])


def _attempts(*acts: str, plain: bool = False, before: str = "") -> Hostile:
    lines = [f"attempt({act!r}, lambda: {act})" for act in acts]
    return Hostile("\n".join([before, *lines]), ("ok",), plain)


_PROCESSES = {
    "a fork bomb": Hostile(
        "def fork(_):\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n"
        "print(until_refused(fork, 16))",
        plain=True,
    ),
    "threads": _attempts("threading.Thread(target=time.sleep, args=(1,)).start()", plain=True),
    "bare threads": _attempts("__import__('_thread').start_new_thread(time.sleep, (1,))"),
    "a shell": _attempts("subprocess.run(['/bin/sh', '-c', 'id'])", plain=True),
    "os.system": _attempts("1 / (os.system('exit 0') == 0)", plain=True),
    "posix_spawn": _attempts("os.posix_spawn('/bin/true', ['true'], {})", plain=True),
    "popen": _attempts("1 / len(os.popen('echo x').read())", plain=True),
    "vfork": _attempts("called(libc.vfork)"),
    "clone by its number": _attempts("syscall(56, 17, 0, 0, 0, 0)"),
    "clone3 by its number": _attempts("syscall(435, bytes(88), 88)"),
    "multiprocessing": _attempts(
        "multiprocessing.get_context('fork').Process(target=int).start()",
        before="import multiprocessing",
        plain=True,
    ),
    "a pool of processes": _attempts(
        "concurrent.futures.ProcessPoolExecutor(1).submit(int).result(1)",
        before="import concurrent.futures",
    ),
    "a daemon": Hostile(
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        for fd in range(3): os.close(fd)\n        time.sleep(60)\n    os._exit(0)",
        plain=True,
    ),
    "nohup": _attempts(
        "subprocess.Popen(['nohup', 'sleep', '60'], start_new_session=True)",
    ),
    "another program": _attempts(
        "os.execv('/bin/true', ['true'])", "os.execve('/bin/sh', ['sh'], {})"
    ),
    "a program without a file": _attempts(
        "os.memfd_create('x')", "syscall(322, 0, b'/bin/true', 0, 0, 0)"
    ),
    "a terminal": _attempts("os.openpty()", "os.open('/dev/tty', os.O_RDWR)"),
    "out of its group": _attempts("os.setsid()", "os.setpgid(0, 0)", "os.setpgrp()"),
    "not to die with its parent": _attempts(
        "called(libc.prctl, 1, 0, 0, 0, 0)", "called(libc.prctl, 36, 1, 0, 0, 0)"
    ),
}
_MEMORY = {
    "a large block": Hostile("x = bytearray(1 << 40)", ("memory",)),
    "many blocks": Hostile("x = []\nwhile True: x.append(bytearray(1 << 24))", ("memory",)),
    "many small things": Hostile("x = []\nwhile True: x.append(object())", ("memory", "time")),
    "mappings": Hostile(
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 26))", ("error", "memory")
    ),
    "memory that has no address": _attempts("os.memfd_create('x')", plain=True),
    "System V memory": _attempts("called(libc.shmget, 0, 1 << 20, 0o1600)"),
    "POSIX memory": _attempts(
        "shared_memory.SharedMemory(create=True, size=1 << 20)",
        before="from multiprocessing import shared_memory",
    ),
    "semaphores and queues": _attempts(
        "called(libc.semget, 0, 1, 0o1600)", "called(libc.msgget, 0, 0o1600)"
    ),
    "a bomb of zeros": Hostile(
        "import zlib\nbomb = zlib.compress(bytes(1 << 24))\n"
        "x = b''.join(zlib.decompress(bomb) for _ in range(1 << 12))",
        ("memory", "time"),
    ),
    "a bomb in an archive": Hostile(
        "import io, zipfile\nfile = io.BytesIO()\n"
        "with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:\n"
        "    with archive.open('x', 'w') as inner:\n"
        "        for _ in range(64): inner.write(bytes(1 << 20))\n"
        "zipfile.ZipFile(file).extractall('.')",
    ),
    "deep recursion": Hostile("sys.setrecursionlimit(1 << 30)\ndef f(): f()\nf()", _FULL),
    "a deep list": Hostile("x = []\nfor _ in range(10**6): x = [x]\nrepr(x)", _FULL),
    "a long number": Hostile("x = 10 ** 10 ** 9", ("memory", "time")),
    "a slow expression": Hostile("import re\nre.match('(a+)+$', 'a' * 64 + 'b')", _OVER_TIME),
    "a deep expression": Hostile("eval('-' * 10**6 + '1')", _FULL),
}
_HELD = "x = []\ndef hold(n):\n    file = open(f'{n}', 'w+b')\n    file.write(bytes(1 << 20))\n"
_DISK = {
    "a large file": Hostile("open('x', 'wb').write(bytes(1 << 26))"),
    "a file that grows": Hostile(
        "file = open('x', 'wb', 0)\nprint(until_refused(lambda _: file.write(bytes(1 << 16))))",
    ),
    "many large files": Hostile(
        "print(until_refused(lambda n: open(f'{n}', 'wb').write(bytes(1 << 20))))"
    ),
    "many files": Hostile("print(until_refused(lambda n: open(f'{n}', 'w').close()))"),
    "many folders": Hostile("print(until_refused(lambda n: os.mkdir(f'{n}')))"),
    "many links": Hostile(
        "open('x', 'w').close()\nprint(until_refused(lambda n: os.symlink('x', f's{n}')))\n"
        "print(until_refused(lambda n: os.link('x', f'h{n}')))",
    ),
    "nested folders": Hostile(
        "def into(_):\n    os.mkdir('x' * 200)\n    os.chdir('x' * 200)\nprint(until_refused(into))"
    ),
    "holes that are filled": Hostile(
        "import mmap\nx = []\ndef fill(n):\n    file = open(f'{n}', 'w+b')\n"
        "    os.pwrite(file.fileno(), b'x', (1 << 20) - 1)\n"
        "    with mmap.mmap(file.fileno(), 1 << 20) as memory: memory[:] = b'x' * (1 << 20)\n"
        "print(until_refused(fill))",
        _FULL,
    ),
    "lengths": Hostile(
        "def grow(n):\n    with open(f'{n}', 'wb') as file: os.ftruncate(file.fileno(), 1 << 20)\n"
        "    with open(f'{n}', 'r+b') as file: file.write(b'x' * (1 << 20))\n"
        "print(until_refused(grow))",
    ),
    "removed files that are held": Hostile(
        _HELD + "    os.unlink(f'{n}')\n    x.append(file)\nprint(until_refused(hold))"
    ),
    "removed files that are mapped": Hostile(
        "import mmap\n" + _HELD + "    file.flush()\n"
        "    x.append(mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE))\n"
        "    file.close()\n    os.unlink(f'{n}')\nprint(until_refused(hold))",
        _FULL,
    ),
    "reserved space": Hostile(
        "def reserve(n):\n    with open(f'{n}', 'wb') as file:\n"
        "        os.posix_fallocate(file.fileno(), 0, 1 << 20)\nprint(until_refused(reserve))",
        _FULL,
    ),
    "copies in the kernel": Hostile(
        "open('x', 'wb').write(bytes(1 << 20))\ndef copy(n):\n"
        "    with open('x', 'rb') as a, open(f'{n}', 'wb') as b:\n"
        "        os.copy_file_range(a.fileno(), b.fileno(), 1 << 20)\nprint(until_refused(copy))"
    ),
    "vectors": Hostile(
        "def write(n):\n    with open(f'{n}', 'wb') as file:\n"
        "        os.writev(file.fileno(), [bytes(1 << 20)])\nprint(until_refused(write))",
    ),
    "scattered bytes": Hostile(
        "file = open('x', 'wb', 0)\n"
        "print(until_refused(lambda n: os.pwrite(file.fileno(), b'x', n * 8192)))",
    ),
    "large names": Hostile("print(until_refused(lambda n: open(f'{n:0255}', 'w').close()))"),
}
_READING = {
    "the system's settings": _attempts(
        "open('/etc/passwd').read()", "open('/etc/hostname').read()", plain=True
    ),
    "passwords": _attempts("open('/etc/shadow').read()", "__import__('pwd').getpwall()[0]"),
    "somebody's file": _attempts("open('<secret>').read()", plain=True),
    "somebody's folder": _attempts("os.listdir('<folder>')", plain=True),
    "homes": _attempts("open('/root/.bashrc')", "os.listdir('/root/.ssh')", "os.listdir('/home')"),
    "the environment": Hostile("print(dict(os.environ), os.getenv('<variable>'))", plain=True),
    "its own /proc": _attempts(
        *("open('/proc/self/environ').read()", "open('/proc/self/mem', 'rb')"),
        *("os.listdir('/proc/self/fd')", "os.listdir('/proc/self/task')"),
        plain=True,
    ),
    "others in /proc": _attempts(
        *("os.listdir('/proc')", "open('/proc/<victim>/environ').read()"),
        *("open('/proc/<victim>/mem', 'rb')", "os.listdir('/proc/<victim>/root')"),
        *("os.readlink('/proc/<victim>/cwd')", "open('/proc/1/cmdline').read()"),
        plain=True,
    ),
    "its supervisor": _attempts(
        *("open(f'/proc/{os.getppid()}/mem', 'rb')", "os.listdir(f'/proc/{os.getppid()}/fd')"),
        *("os.kill(os.getppid(), 9)", "os.kill(os.getppid(), 0)"),
        "syscall(101, 16, os.getppid(), 0, 0)",
    ),
    "memory of others": _attempts(
        "called(libc.ptrace, 16, <victim>, 0, 0)",
        "called(libc.process_vm_readv, <victim>, None, 0, None, 0, 0)",
        "called(libc.process_vm_writev, <victim>, None, 0, None, 0, 0)",
    ),
    "files of others": _attempts("syscall(434, <victim>, 0)", "syscall(438, 3, 0, 0)"),
    "a link out": _attempts(
        "open('out').read()", before="os.symlink('<secret>', 'out')", plain=True
    ),
    "a link to a folder": _attempts(
        "os.listdir('out')", "open('out/secret')", before="os.symlink('<folder>', 'out')"
    ),
    "another name for a file": _attempts(
        "os.link('<secret>', 'mine')", "os.rename('<secret>', 'mine')"
    ),
    "devices": _attempts(
        *("os.open('/dev/mem', 0)", "os.open('/dev/kmsg', 0)", "os.listdir('/dev/shm')"),
        *("os.open('/dev/vda', 0)", "os.open('/dev/sda', 0)", "os.open('/dev/fuse', 2)"),
    ),
    "the kernel's files": _attempts("os.listdir('/sys')", "open('/proc/version').read()"),
    "handles": _attempts("syscall(303, -100, b'/', 0, 0, 0)", "syscall(304, 3, 0, 0)"),
    "openat2": _attempts("syscall(437, -100, b'/etc/passwd', bytes(24), 24)"),
    "watches": _attempts("called(libc.inotify_init)", "syscall(300, 0, 0)", plain=False),
}
_WRITING = {
    "over somebody's file": _attempts(
        *("open('<canary>', 'w').write('x')", "open('<canary>', 'a').write('x')"),
        *("os.truncate('<canary>', 0)", "os.unlink('<canary>')"),
        "os.rename('<canary>', '<canary>.moved')",
        plain=True,
    ),
    "beside it": _attempts(
        *("open('<folder>/new', 'w')", "os.mkdir('<folder>/new')", "os.symlink('x', '<folder>/l')"),
        plain=True,
    ),
    "its mode and times": Hostile(
        "for act in (lambda: os.chmod('<canary>', 0o777), lambda: os.utime('<canary>', (1, 1)),\n"
        "            lambda: os.setxattr('<canary>', 'user.x', b'x')):\n"
        "    try: act()\n    except OSError: pass",
        plain=True,
    ),
    "the root and the system": _attempts(
        *("open('/x', 'w')", "open('/usr/x', 'w')", "open('/usr/lib/python3/x.pth', 'w')"),
        *("os.mkdir('/etc/x')", "open(sys.executable, 'r+b')", "open(os.__file__, 'a')"),
    ),
    "its own code": _attempts(
        "open(sys.modules['inside'].__file__, 'a')", "os.unlink(sys.modules['inside'].__file__)"
    ),
    "what it may only read": _attempts(
        *("open('inputs/data.txt', 'w')", "os.unlink('inputs/data.txt')", "open('inputs/x', 'w')"),
        "os.rename('inputs/data.txt', 'data.txt')",
    ),
    "the folder itself": Hostile(
        "for act in (lambda: os.rename(os.getcwd(), '/tmp/other'), lambda: os.rmdir(os.getcwd()),\n"
        "            lambda: os.chmod(os.getcwd(), 0), lambda: os.chmod('.', 0)):\n"
        "    try: act()\n    except OSError: pass",
    ),
    "a link in the place of the inputs": Hostile(
        "os.unlink('inputs')\nos.symlink('<folder>', 'inputs')\n"
        "attempt('read', lambda: open('inputs/secret').read())"
    ),
}
_NETWORK = {
    "TCP": _attempts("socket.create_connection(('127.0.0.1', <tcp>), 1)", plain=True),
    "UDP": _attempts(
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', <udp>))",
        plain=True,
    ),
    "a local socket": _attempts(
        "socket.socket(socket.AF_UNIX).connect('<unix>')",
        "socket.socket(socket.AF_UNIX).connect('\\0<abstract>')",
        plain=True,
    ),
    "raw packets": _attempts(
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "socket.socket(socket.AF_PACKET)"
    ),
    "netlink and others": _attempts(
        *("socket.socket(socket.AF_NETLINK)", "socket.socket(socket.AF_VSOCK)"),
        *("socket.socket(socket.AF_ALG)", "socket.socket(socket.AF_INET6)", "socket.socketpair()"),
    ),
    "names": _attempts("socket.getaddrinfo('example.org', 80)"),
    "a server": _attempts("socket.create_server(('127.0.0.1', 0))", plain=True),
    "asyncio": _attempts("asyncio.run(asyncio.sleep(0))", before="import asyncio", plain=True),
    "an address of the web": _attempts(
        "urllib.request.urlopen('http://127.0.0.1:<tcp>', timeout=0.5)",
        before="import urllib.request",
    ),
}
_SIGNALS = {
    "to another process": _attempts("os.kill(<victim>, 9)", "os.kill(<victim>, 0)", plain=True),
    "to all": _attempts("os.kill(-1, 9)", "os.kill(0, 9)", "os.killpg(os.getpgrp(), 9)"),
    "by other calls": _attempts(
        *("syscall(234, <victim>, <victim>, 9)", "syscall(200, <victim>, 9)"),
        *("syscall(129, <victim>, 9, bytes(128))", "syscall(424, 3, 9, 0, 0)"),
    ),
    "by input that comes": _attempts(
        "fcntl.fcntl(0, 8, <victim>)", "fcntl.fcntl(0, 10, 9)", before="import fcntl"
    ),
    "limits of others": _attempts(
        "resource.prlimit(<victim>, resource.RLIMIT_CPU, (1, 1))",
        "os.setpriority(os.PRIO_PROCESS, <victim>, 19)",
        "os.sched_setaffinity(<victim>, {0})",
        before="import resource",
        plain=True,
    ),
}
_KERNEL = {
    "mounts": _attempts(
        "called(libc.mount, b'x', b'/tmp', b'tmpfs', 0, 0)",
        "called(libc.umount2, b'/tmp', 2)",
        "os.chroot('.')",
        "syscall(155, b'.', b'.')",
        "syscall(430, b'tmpfs', 0)",
    ),
    "namespaces": _attempts(
        *("called(libc.unshare, 0x10000000)", "called(libc.unshare, 0x40000000)"),
        "called(libc.setns, 0, 0)",
    ),
    "io_uring": _attempts("syscall(425, 8, bytes(120))", "syscall(426, 3, 1, 0, 0, 0, 0)"),
    "asynchronous input and output": _attempts("syscall(206, 8, bytes(8))"),
    "bpf and perf": _attempts("syscall(321, 0, 0, 0)", "syscall(298, bytes(128), 0, -1, -1, 0)"),
    "userfaultfd": _attempts("syscall(323, 0)"),
    "keyrings": _attempts("syscall(250, 0, -3, 0, 0)", "syscall(248, b'user', b'x', b'x', 1, -3)"),
    "modules and restarts": _attempts(
        *("syscall(175, 0, 0, 0)", "syscall(320, -1, -1, 0, 0, 0)", "syscall(167, b'/x', 0)"),
        "syscall(169, 0xFEE1DEAD, 672274793, 0, 0)",
    ),
    "filters of its own": _attempts("syscall(317, 1, 8, 0)", "syscall(444, 0, 0, 1)"),
    "higher limits": _attempts(
        "resource.setrlimit(resource.RLIMIT_CPU, (9999, 9999))",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        before="import resource",
    ),
    "the first user": _attempts("os.setuid(0)", "os.setgid(0)", "os.setgroups([0])"),
    "clocks and names": _attempts(
        *("time.clock_settime(time.CLOCK_REALTIME, 0)", "socket.sethostname('x')"),
        "called(libc.personality, 0)",
    ),
    "calls of 32 bits": Hostile(
        "import mmap\ncode = bytes.fromhex('b802000000cd80c3')  # mov eax, fork; int 0x80; ret\n"
        "memory = mmap.mmap(-1, 4096, prot=7)\nmemory.write(code)\n"
        "place = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n"
        "print('ESCAPED', ctypes.CFUNCTYPE(ctypes.c_int)(place)())",
        _DEAD,
    ),
    "calls with pointers of 32 bits": Hostile("libc.syscall(0x40000000 + 39)", _DEAD),
}
_PYTHON = {
    "a pickle": _attempts(
        "1 / (pickle.loads(b\"cos\\nsystem\\n(S'exit 0'\\ntR.\") == 0)",
        before="import pickle",
        plain=True,
    ),
    "an import that runs": Hostile(
        "open('trap.py', 'w').write(\"import os; os.system('id')\")\nimport trap\n"
    ),
    "subclasses": _attempts(
        "[c for c in object.__subclasses__() if c.__name__ == 'Popen'][0](['id'])",
        before="import subprocess",
        plain=True,
    ),
    "frames and objects": Hostile(
        "import gc\nframe = sys._getframe()\nwhile frame:\n"
        "    print([repr(v).lower() for v in frame.f_locals.values()][:3])\n"
        "    frame = frame.f_back\n"
        "print([t.lower() for t in gc.get_objects() if isinstance(t, str)][:3])",
        ("ok", "error", "output"),
    ),
    "code for the next start": Hostile(
        "for name in ('sitecustomize', 'usercustomize', 'json', 'os', 'ast', 'code', 'wire'):\n"
        "    open(f'{name}.py', 'w').write('print(\"ESC\" \"APED\")')\n"
        "open('x.pth', 'w').write('import os; print(\"ESC\" \"APED\")')\n"
        "os.environ['PYTHONSTARTUP'] = 'os.py'\nos.environ['PYTHONPATH'] = '.'\nos._exit(0)",
        _DEAD,
    ),
    "code for the end": Hostile(
        "import atexit\natexit.register(lambda: print('ESCAPED'))\nclass Last:\n"
        "    def __del__(self): open('ESCAPED', 'w')\nlast = Last()\nsys.last = last",
        ("ok",),
    ),
    "hooks": Hostile(
        "def trace(*arguments): raise KeyboardInterrupt\n"
        "sys.excepthook = sys.displayhook = trace\nsys.setprofile(trace)",
        _FULL,
        next_ends=("ok", "error", "killed"),
    ),
    "no builtins": Hostile(
        "import builtins\nfor name in list(vars(builtins)):\n"
        "    if name not in ('delattr', '__name__'): delattr(builtins, name)",
        _FULL,
        next_ends=("ok", "error", "killed"),
    ),
    "another harness": Hostile(
        "import json\nfrom inside import wire\nwire.send = json.dumps = lambda *a, **k: None",
        _OVER_TIME + _FULL,
        next_ends=("ok", "error", "killed", "time"),
    ),
    "no output": Hostile("sys.stdout = sys.stderr = None", ("ok", "error")),
    "closed output": Hostile(
        "sys.stdout.close(); os.close(2)", ("ok", "killed"), next_ends=("ok", "killed")
    ),
    "a value that cannot be shown": Hostile(
        "class X:\n    def __repr__(self): raise SystemExit\nX()", ("error",)
    ),
    "a value that is shown for ever": Hostile(
        "class X:\n    def __repr__(self):\n        while True: pass\nX()", _OVER_TIME
    ),
    "a long value": Hostile("'x' * (1 << 25)", ("ok", "memory")),
    "an error that cannot be shown": Hostile(
        "class X(Exception):\n    def __str__(self): raise X\nraise X", ("error",)
    ),
    "a long error": Hostile("raise ValueError('x' * (1 << 25))", ("error", "memory")),
    "an error of a strange kind": Hostile(
        "X = type('\\ud800\\x1b[2J', (BaseException,), {})\nraise X('\\ud800\\0')", ("error",)
    ),
    "errors in errors": Hostile(
        "def f(n):\n    try: 1 / 0\n    except Exception: f(n - 1) if n else 1 / 0\nf(100)",
        ("error",),
    ),
    "many errors": Hostile(
        "g = ValueError(1)\nfor _ in range(500): g = ExceptionGroup('g', [g, g])\nraise g",
        ("error", "memory", "time"),
    ),
    "exit": Hostile("exit(3)", ("error",)),
    "no Python": Hostile("def f(:\x00", ("error",)),
    "half a surrogate": Hostile("print('\\ud800')\nx = '\\udfff'\nx", ("ok",)),
}
_FORGED = """
import json
frame = sys._getframe()
while "call" not in frame.f_locals:
    frame = frame.f_back
identity = frame.f_locals["call"]["id"]
def send(message):
    data = json.dumps(message).encode()
    os.write(4, len(data).to_bytes(4, "big") + data)
"""
_PROTOCOL = {
    "a result of its own": Hostile(
        _FORGED + "send({'id': identity, 'value': 'forged', 'error': None})\nwhile True: pass",
        ("ok",),
        next_ends=("killed", "time"),
    ),
    "two results": Hostile(
        _FORGED + "for _ in range(2): send({'id': identity, 'value': 'forged', 'error': None})",
        ("ok", "killed"),
        next_ends=("ok", "killed"),
    ),
    "a result of the next call": Hostile(
        "data = b'{\"id\": \"0\"}'\nos.write(4, len(data).to_bytes(4, 'big') + data)", _DEAD
    ),
    "a result of strange types": Hostile(
        _FORGED + "send({'id': identity, 'value': [1], 'error': {'type': 7, 'message': None}})",
        ("error", "killed"),
        next_ends=("ok", "killed"),
    ),
    "a deep result": Hostile(
        "data = b'[' * 100_000\nos.write(4, len(data).to_bytes(4, 'big') + data)", _DEAD
    ),
    "a long result": Hostile(
        "os.write(4, b'\\xff\\xff\\xff\\xff')\nwhile True: os.write(4, bytes(1 << 16))",
        ("killed", "time"),
    ),
    "no length": Hostile("os.write(4, b'\\0\\0\\0\\0')", _DEAD),
    "the next request": Hostile("os.read(3, 100)", _OVER_TIME),
    "all closed": Hostile("os.closerange(0, 1000)", _DEAD),
    "all closed, and then": Hostile("os.closerange(0, 1000)\ntime.sleep(60)", _OVER_TIME),
    "streams exchanged": Hostile(
        "os.dup2(4, 1)\nos.dup2(2, 4)\nprint('x', flush=True)", ("ok", "killed", "time", "error")
    ),
    "all descriptors": Hostile("x = []\nwhile True: x.append(os.dup(0))", ("error", "killed")),
}
_ENDLESS = "while True: "
_OUTPUT = {
    "output without end": Hostile(_ENDLESS + "print('x' * 1000)", ("output",)),
    "errors without end": Hostile(_ENDLESS + "print('x' * 1000, file=sys.stderr)", ("output",)),
    "both without end": Hostile(
        _ENDLESS + "os.write(1, b'x' * 7); os.write(2, b'y' * 7)", ("output", "time")
    ),
    "a line without end": Hostile(_ENDLESS + "os.write(1, bytes(1 << 20))", ("output",)),
    "output of C": Hostile(_ENDLESS + "libc.puts(b'x' * 1000)", ("output",)),
    "a terminal's orders": Hostile(
        "print('\\x1b]0;title\\x07\\x1b[2J\\x1b[31mred\\r\\x08\\x9b1m\\u202eabc')", ("ok",)
    ),
    "no text": Hostile("os.write(1, bytes(range(256)))", ("ok",)),
}
_ENDS = {
    "a loop": Hostile(_ENDLESS + "pass", _OVER_TIME),
    "a loop that ignores signals": Hostile(
        "for number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        _OVER_TIME,
    ),
    "a long sleep": Hostile("time.sleep(10**6)", _OVER_TIME),
    "a wait for input": Hostile("input()", ("error",)),
    "it ends itself": Hostile("os._exit(0)", _DEAD),
    "it aborts": Hostile("os.abort()", _DEAD),
    "it kills itself": Hostile("os.kill(os.getpid(), 9)", _DEAD),
    "it stops itself": Hostile("os.kill(os.getpid(), 19)", _OVER_TIME),
    "it reads where nothing is": Hostile("ctypes.string_at(0)", _DEAD),
    "alarms": Hostile("signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\ntime.sleep(5)", _DEAD),
    "alarms between calls": Hostile(
        "ticks = []\nsignal.signal(signal.SIGALRM, lambda *_: ticks.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
        ("ok",),
    ),
}
_HANDED_OUT = {
    "odd names": Hostile(
        "for name in (b'a\\nb', b'\\x1b[2J', b'\\xff\\xfe', b'-rf', b'...', b'a b', b'x\\\\y',\n"
        "             b'\\xe2\\x80\\xae', b'%s', b'<script>'):\n    open(name, 'w').write('x')",
        ("ok",),
    ),
    "pipes and devices": _attempts(
        "os.mkfifo('pipe')", "os.mknod('zero.png', 0o20666, os.makedev(1, 5))"
    ),
    "a link as a picture": Hostile("os.symlink('<secret>', 'x.png')", ("ok",)),
    "a name that changes": Hostile(
        "end = time.monotonic() + 0.2\nopen('file', 'w').close()\nwhile time.monotonic() < end:\n"
        "    try:\n        os.symlink('<secret>', 'new')\n        os.replace('new', 'x.png')\n"
        "        os.replace('file', 'x.png')\n        open('file', 'w').close()\n"
        "    except OSError: pass",
        ("ok",),
    ),
}

PROGRAMS: dict[str, Hostile] = {
    f"{kind}: {name}": program
    for kind, programs in (
        *(("processes", _PROCESSES), ("memory", _MEMORY), ("disk", _DISK), ("reading", _READING)),
        *(("writing", _WRITING), ("network", _NETWORK), ("signals", _SIGNALS)),
        *(("kernel", _KERNEL), ("Python", _PYTHON), ("protocol", _PROTOCOL)),
        *(("output", _OUTPUT), ("ends", _ENDS), ("handed out", _HANDED_OUT)),
    )
    for name, program in programs.items()
}
