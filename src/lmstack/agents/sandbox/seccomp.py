"""The system calls that a sandboxed program is refused, as a BPF program for seccomp.

A second wall behind the namespaces: what starts processes or threads (a fork bomb needs them),
opens sockets, looks into other processes, mounts, makes namespaces, or reaches parts of the kernel
that have had holes (bpf, io_uring, keyrings, performance counters). They fail with EPERM, clone3
with ENOSYS, as for a kernel that has none. A call of another architecture kills the process.
Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import errno
import platform
import struct

__all__ = ["seccomp_filter"]

# Names, with their numbers on x86_64 and on aarch64; None: there is no such call there.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    **{"clone": (56, 220), "fork": (57, None), "vfork": (58, None)},
    **{"socket": (41, 198), "socketpair": (53, 199)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433)},
    **{"mount_setattr": (442, 442), "open_by_handle_at": (304, 265)},
    **{"unshare": (272, 97), "setns": (308, 268)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106)},
    **{"swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116)},
    **{"personality": (135, 92), "quotactl": (179, 60), "settimeofday": (164, 170)},
    **{"clock_settime": (227, 112), "sethostname": (170, 161), "setdomainname": (171, 162)},
}
_CLONE3 = 435
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000  # x86_64's calls with 32-bit pointers, under numbers of their own
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The program for ``machine`` (that of this process unless given), as an array of struct
    sock_filter; None for a machine whose numbers are not known."""
    known = _ARCHITECTURES.get(machine or platform.machine())
    if known is None:
        return None
    column, architecture = known
    refused = [numbers[column] for numbers in _REFUSED.values()]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, _KILL),
        *_refusal(_CLONE3, errno.ENOSYS),
    ]
    for number in refused:
        if number is not None:
            steps += _refusal(number, errno.EPERM)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _refusal(number: int, error: int) -> list[bytes]:
    return [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERROR | error)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
