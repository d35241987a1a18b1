"""The system calls that a confined process may make, with their numbers.

Everything that Python's standard library, NumPy and Matplotlib do in one process of one thread.
What is not here is refused: processes and threads, other programs, sockets, other processes'
memory, signals and limits, mounts, namespaces, shared memory, asynchronous I/O, keyrings, bpf,
watches on files, extended attributes, devices and FIFOs, and all calls that are newer than this.
Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "ARCHITECTURES", "CHECKED", "CREATING", "FOLLOWED", "SET_TIMES_OR_MODES"]

Numbers = dict[str, tuple[int | None, int | None]]

# Machine to the column of its numbers below and its name in linux/audit.h.
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# Whatever their arguments are.
ALLOWED: Numbers = {
    **{"read": (0, 63), "readv": (19, 65), "pread64": (17, 67)},
    **{"preadv": (295, 69), "preadv2": (327, 286), "lseek": (8, 62)},
    **{"close": (3, 57), "close_range": (436, 436)},
    **{"stat": (4, None), "lstat": (6, None), "fstat": (5, 80), "newfstatat": (262, 79)},
    **{"statx": (332, 291), "access": (21, None), "faccessat": (269, 48)},
    **{"faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78)},
    **{"getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17)},
    **{"chdir": (80, 49), "fchdir": (81, 50), "statfs": (137, 43), "fstatfs": (138, 44)},
    **{"rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276)},
    **{"unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None)},
    **{"fsync": (74, 82), "fdatasync": (75, 83), "flock": (73, 32), "umask": (95, 166)},
    **{"fadvise64": (221, 223), "readahead": (187, 213)},
    **{"dup": (32, 23), "dup2": (33, None), "dup3": (292, 24)},
    **{"pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73)},
    **{"select": (23, None), "pselect6": (270, 72)},
    **{"epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21)},
    **{"epoll_wait": (232, None), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441)},
    **{"eventfd": (284, None), "eventfd2": (290, 19)},
    **{"timerfd_create": (283, 85), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87)},
    **{"signalfd": (282, None), "signalfd4": (289, 74)},
    **{"munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216)},
    **{"msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "brk": (12, 214)},
    **{"mlock": (149, 228), "munlock": (150, 229)},
    **{"futex": (202, 98), "futex_waitv": (449, 449), "futex_wake": (454, 454)},
    **{"futex_wait": (455, 455), "futex_requeue": (456, 456)},
    **{"set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293)},
    **{"membarrier": (324, 283), "sched_yield": (24, 124), "sched_getaffinity": (204, 123)},
    **{"getcpu": (309, 168)},
    **{"rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139)},
    **{"rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133)},
    **{"sigaltstack": (131, 132), "pause": (34, None), "alarm": (37, None)},
    **{"getitimer": (36, 102), "setitimer": (38, 103), "restart_syscall": (219, 128)},
    **{"nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113)},
    **{"clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None)},
    **{"times": (100, 153), "getrandom": (318, 278)},
    **{"getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178)},
    **{"getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177)},
    **{"getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158)},
    **{"getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156)},
    **{"getrusage": (98, 165), "getrlimit": (97, 163), "sysinfo": (99, 179), "uname": (63, 160)},
    **{"arch_prctl": (158, None), "wait4": (61, 260), "waitid": (247, 95)},
    **{"exit": (60, 93), "exit_group": (231, 94)},
}
# Make a file, a folder or a link.
CREATING: Numbers = {
    **{"creat": (85, None), "mkdir": (83, None), "mkdirat": (258, 34)},
    **{"link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36)},
}
# Make a file longer. Where nothing but a count keeps the disk from filling up, the first three are
# counted and the others refused; Python copies files without them.
FOLLOWED: Numbers = {
    **{"write": (1, 64), "pwrite64": (18, 68), "ftruncate": (77, 46)},
    **{"writev": (20, 66), "pwritev": (296, 70), "pwritev2": (328, 287)},
    **{"sendfile": (40, 71), "copy_file_range": (326, 285)},
}
# Reach any file of the same user, which Landlock does not keep from it.
SET_TIMES_OR_MODES: Numbers = {
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None)},
    **{"utimensat": (280, 88)},
}
# Whether they are allowed is a matter of their arguments (`seccomp`).
CHECKED: Numbers = {
    **{"open": (2, None), "openat": (257, 56), "mmap": (9, 222), "fcntl": (72, 25)},
    **{"ioctl": (16, 29), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)},
    **{"sendmsg": (46, 211), "prctl": (157, 167), "prlimit64": (302, 261)},
    **{"getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10)},
    **{"listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"fallocate": (285, 47)},
}
