"""What a process took at most. Peers import it in environments of their own: nothing but Python."""

import pathlib


def peak_bytes() -> int:
    """Of this process, since it began. `ru_maxrss` would begin with what its parent took."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")
