"""The filter of system calls, run here as the kernel runs it."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.agents.sandbox.inside import system_calls
from lmstack.agents.sandbox.inside.seccomp import _checks, _maps, seccomp_filter

ALLOW, ASK, KILL, ERROR = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID, SOCKET = 4321, 5
TABLES = (
    *(system_calls.ALLOWED, system_calls.CREATING, system_calls.FOLLOWED),
    *(system_calls.SET_TIMES_OR_MODES, system_calls.CHECKED),
)
# What leads out or reaches parts of the kernel that have had holes; numbers on both machines.
NEVER = {
    **{"clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435)},
    **{"execve": (59, 221), "execveat": (322, 281), "socket": (41, 198), "socketpair": (53, 199)},
    **{"connect": (42, 203), "bind": (49, 200), "ptrace": (101, 117)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424)},
    **{"rt_sigqueueinfo": (129, 138), "mount": (165, 40), "umount2": (166, 39)},
    **{"pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428)},
    **{"unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "bpf": (321, 280)},
    **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425)},
    **{"io_setup": (206, 0), "memfd_create": (319, 279), "memfd_secret": (447, 447)},
    **{"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"mknod": (133, None), "mknodat": (259, 33), "setrlimit": (160, 164), "seccomp": (317, 277)},
    **{"setsid": (112, 157), "setpgid": (109, 154), "setuid": (105, 146), "capset": (126, 91)},
    **{"openat2": (437, 437), "open_by_handle_at": (304, 265), "inotify_init1": (294, 26)},
    **{
        "truncate": (76, 45),
        "chown": (92, None),
        "fchown": (93, 55),
        "sched_setaffinity": (203, 122),
    },
    **{"splice": (275, 76), "vmsplice": (278, 75), "add_key": (248, 217), "reboot": (169, 142)},
}


def decision(
    program: bytes,
    machine: str,
    number: int,
    arguments: tuple[int, ...] = (),
    architecture: int = 0,
) -> int:
    """What the program returns for a call: classic BPF, as far as it is used."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, architecture or MACHINES[machine], 0, *padded)
    steps = list(struct.iter_unpack("=HBBI", program))
    value = place = 0
    while True:
        code, if_true, if_false, operand = steps[place]
        place += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            value &= operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: value & operand}[code]
            place += if_true if holds else if_false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["bytes counted", "not counted"])
def counts_bytes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def program(machine: str, counts_bytes: bool) -> bytes:
    found = seccomp_filter(PID, SOCKET, counts_bytes=counts_bytes, machine=machine)
    assert found is not None
    return found


def number(name: str, machine: str) -> int:
    numbers = {key: value for table in TABLES for key, value in table.items()}
    found = numbers[name][list(MACHINES).index(machine)]
    assert found is not None
    return found


def test_every_path_ends_in_a_return_and_no_jump_leaves_the_program(program: bytes) -> None:
    steps = list(struct.iter_unpack("=HBBI", program))
    assert len(steps) < 4096
    for place, (code, if_true, if_false, _) in enumerate(steps):
        if code in (0x15, 0x35, 0x45):
            assert place + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06


def test_no_check_of_a_call_runs_on_into_that_of_the_next() -> None:
    """Where an argument would be taken for the number of another call."""
    for name, rule in [*_checks(PID, SOCKET).items(), ("mmap", _maps())]:
        steps = [struct.unpack("=HBBI", step) for step in rule]
        for place, (code, if_true, if_false, _) in enumerate(steps):
            if code in (0x15, 0x35, 0x45):
                assert place + 1 + max(if_true, if_false) < len(steps), name
        assert steps[-1][0] == 0x06, name


@given(call=st.integers(0, 600), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_that_is_not_in_the_table_is_refused_whatever_its_arguments(
    machine: str, call: int, arguments: tuple[int, ...]
) -> None:
    program = seccomp_filter(PID, SOCKET, counts_bytes=True, machine=machine)
    assert program is not None
    column = list(MACHINES).index(machine)
    known = {numbers[column] for table in TABLES for numbers in table.values()}
    done = decision(program, machine, call, arguments)
    if call not in known:
        assert done == ERROR | (errno.ENOSYS if call >= 403 else errno.EPERM)


@pytest.mark.parametrize("name", NEVER)
def test_what_leads_out_is_refused(machine: str, program: bytes, name: str) -> None:
    call = NEVER[name][list(MACHINES).index(machine)]
    if call is not None:
        for argument in (0, 1, PID, SOCKET, 2**64 - 1):
            assert decision(program, machine, call, (argument,) * 6) >> 16 == ERROR >> 16


def test_a_number_stands_for_one_call(machine: str) -> None:
    column = list(MACHINES).index(machine)
    numbers = [n for table in TABLES for each in table.values() if (n := each[column]) is not None]
    assert len(numbers) == len(set(numbers))
    assert not set(numbers) & {each[column] for each in NEVER.values()}


def test_calls_of_another_architecture_kill(machine: str, program: bytes) -> None:
    other = next(value for key, value in MACHINES.items() if key != machine)
    assert decision(program, machine, 0, architecture=other) == KILL
    assert decision(program, machine, 0, architecture=0x40000003) == KILL  # i386
    assert decision(program, machine, 0x40000000 + 1) == KILL  # x32


def test_signals_reach_the_process_itself_alone(machine: str, program: bytes) -> None:
    for name in ("kill", "tkill", "tgkill"):
        call = number(name, machine)
        assert decision(program, machine, call, (PID, PID, 9)) == ALLOW
        for other in (0, 1, PID + 1, 2**32 - 1, 2**64 - 1, 2**32 - PID):
            assert decision(program, machine, call, (other, PID, 9)) == ERROR | errno.EPERM


def test_making_a_file_is_asked_about_and_cutting_what_is_read_is_refused(
    machine: str, program: bytes
) -> None:
    call = number("openat", machine)

    def opened(flags: int) -> int:
        return decision(program, machine, call, (0, 0, flags))

    assert opened(os.O_RDONLY) == opened(os.O_RDWR) == opened(os.O_WRONLY | os.O_TRUNC) == ALLOW
    assert opened(os.O_WRONLY | os.O_CREAT) == opened(os.O_RDWR | os.O_TMPFILE) == ASK
    assert opened(os.O_RDONLY | os.O_TRUNC) == ERROR | errno.EACCES
    assert decision(program, machine, number("mkdirat", machine)) == ASK


def test_limits_are_read_and_never_set(machine: str, program: bytes) -> None:
    call = number("prlimit64", machine)
    assert decision(program, machine, call, (0, 7, 0, 1)) == ALLOW
    assert decision(program, machine, call, (PID, 7, 0, 1)) == ALLOW
    high = [(0, word << 32) for word in range(1, 600)]
    for pid, new in ((0, 1), *high, (PID, 1), (1, 0), (PID + 1, 0)):
        assert decision(program, machine, call, (pid, 7, new, 0)) == ERROR | errno.EPERM


def test_bytes_are_counted_or_left_to_the_file_system(
    machine: str, program: bytes, counts_bytes: bool
) -> None:
    for name in ("write", "pwrite64", "ftruncate"):
        expected = ASK if counts_bytes else ALLOW
        assert decision(program, machine, number(name, machine)) == expected
    for name in ("writev", "pwritev", "sendfile", "copy_file_range"):
        expected = ERROR | errno.EPERM if counts_bytes else ALLOW
        assert decision(program, machine, number(name, machine)) == expected
    mapped = {flags: (0, 4096, 3, flags, 3, 0) for flags in (0x1, 0x3, 0x2, 0x21, 0x22)}
    shared = {flags: flags in (0x1, 0x3) for flags in mapped}
    for flags, arguments in mapped.items():
        expected = ASK if counts_bytes and shared[flags] else ALLOW
        assert decision(program, machine, number("mmap", machine), arguments) == expected


def test_modes_and_times_are_not_set_where_landlock_would_let_them(
    machine: str, program: bytes, counts_bytes: bool
) -> None:
    expected = ERROR if counts_bytes else ALLOW  # an error of 0: nothing is done
    for name in ("fchmod", "fchmodat", "utimensat"):
        assert decision(program, machine, number(name, machine)) == expected


def test_one_message_leaves_by_one_socket(machine: str, program: bytes) -> None:
    call = number("sendmsg", machine)
    assert decision(program, machine, call, (SOCKET,)) == ALLOW
    assert decision(program, machine, call, (SOCKET - 1,)) == ERROR | errno.EPERM


def test_a_machine_whose_numbers_are_not_known_has_no_filter() -> None:
    assert seccomp_filter(1, 3, counts_bytes=True, machine="riscv64") is None


@pytest.mark.parametrize(
    ("name", "argument", "let", "refused", "error"),
    [
        ("fcntl", 1, (*range(8), 36, 37, 38, 1030, 1032), (8, 9, 10, 15, 35, 39, 1024, 1031),
         errno.EPERM),
        ("ioctl", 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451), (0x5412, 0x5402, 0),
         errno.ENOTTY),
        ("prctl", 0, (3, 15, 16, 21, 23, 39, 0x53564D41), (1, 4, 22, 24, 38, 0), errno.EPERM),
    ],
)  # fmt: skip
def test_of_a_call_for_many_things_those_that_lead_nowhere_are_let(
    machine: str, program: bytes, name: str, argument: int, let: Any, refused: Any, error: int
) -> None:
    call = number(name, machine)
    for other in (let[0], refused[0]):
        arguments = [other] * 6
        for value in let:
            for high in (0, 1 << 32):  # the kernel takes the low half
                arguments[argument] = value + high
                assert decision(program, machine, call, tuple(arguments)) == ALLOW
        for value in refused:
            arguments[argument] = value
            assert decision(program, machine, call, tuple(arguments)) == ERROR | error


def test_each_call_of_a_table_is_let_asked_about_or_not_supported(
    machine: str, program: bytes
) -> None:
    column = list(MACHINES).index(machine)
    checked = {"open", "openat", "fcntl", "ioctl", "kill", "tkill", "tgkill", "sendmsg", "prctl"}
    rest = {*system_calls.CHECKED} - checked - {"prlimit64", "mmap"}
    for names, expected in (
        (system_calls.ALLOWED, ALLOW),
        (system_calls.CREATING, ASK),
        (rest, ERROR | errno.EOPNOTSUPP),
    ):
        for name in names:
            numbers = {key: value for table in TABLES for key, value in table.items()}
            if (call := numbers[name][column]) is not None:
                assert decision(program, machine, call) == expected, name


def test_where_numbers_begin_and_end(machine: str, program: bytes) -> None:
    for call, expected in (
        (402, ERROR | errno.EPERM),
        (403, ERROR | errno.ENOSYS),
        (0x3FFFFFFF, ERROR | errno.ENOSYS),
        (0x40000000, KILL),
    ):
        assert decision(program, machine, call) == expected


def test_the_old_call_that_opens_has_its_flags_before() -> None:
    program = seccomp_filter(PID, SOCKET, counts_bytes=False, machine="x86_64")
    assert program is not None
    call = number("open", "x86_64")
    for flags, expected in ((os.O_CREAT, ASK), (os.O_TRUNC, ERROR | errno.EACCES), (0, ALLOW)):
        other = os.O_CREAT if expected != ASK else 0
        assert decision(program, "x86_64", call, (other, flags, other)) == expected
