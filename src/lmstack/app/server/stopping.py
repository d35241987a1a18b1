"""Ctrl-C and SIGTERM: heard at any moment, and the process does end.

    interrupts_heard   every command: a Ctrl-C that lands where Python drops exceptions is repeated
    Stopping           `lmstack up`: both signals, an exit code, and a last resort

Loads nothing that takes time, because it must hold before anything else is imported. Does not
cover how a server ends its streams (`serve`).
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_TERMINATED",
    "LAST_RESORT_S",
    "Stopping",
    "interrupts_heard",
]

LAST_RESORT_S = 4.5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
REPEAT_AFTER_S = 0.02


@contextlib.contextmanager
def interrupts_heard() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the code inside, wherever it lands.

    Python drops an exception that is raised in ``__del__`` or in the callback of a weak
    reference. The import system has such a callback for each module, so that a Ctrl-C while
    modules are imported was now and then lost. One that is dropped is sent again, a moment later.
    """
    before, inside = sys.unraisablehook, [True]

    def again() -> None:
        time.sleep(REPEAT_AFTER_S)
        if inside:
            os.kill(os.getpid(), signal.SIGINT)

    def dropped(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt and inside:
            # Not from here: what this hook raises is dropped as well.
            _thread.start_new_thread(again, ())
        else:
            before(unraisable)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        inside.clear()
        sys.unraisablehook = before


class Stopping:
    """From entering to leaving, Ctrl-C and SIGTERM end the process within `LAST_RESORT_S`.

    They raise KeyboardInterrupt and SystemExit(143), or call ``tell`` (number, frame) while that
    is set. Both get a handler even where the parent had Ctrl-C ignored, as a shell does for what
    it starts in the background; before entering, such a Ctrl-C is lost. Whatever hangs from the
    first signal on (a native call, a thread, code that swallows exceptions), the process ends.
    """

    def __init__(self) -> None:
        self.tell: Callable[[int, FrameType | None], None] | None = None
        self.signal: int | None = None
        self._last_resort: threading.Timer | None = None
        self._leaves = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        return EXIT_TERMINATED if self.signal == signal.SIGTERM else EXIT_INTERRUPTED

    def __enter__(self) -> Stopping:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._last_resort is not None and not self._leaves:
            self._last_resort.cancel()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            self._last_resort = threading.Timer(LAST_RESORT_S, os._exit, (self.exit_code,))
            self._last_resort.daemon = True
            self._last_resort.start()
        if self.tell is None:
            self.raise_signal()
        else:
            self.tell(number, frame)

    def raise_signal(self) -> None:
        """KeyboardInterrupt for Ctrl-C, SystemExit for SIGTERM, nothing without a signal."""
        if self.signal is not None:
            terminated = self.signal == signal.SIGTERM
            raise SystemExit(EXIT_TERMINATED) if terminated else KeyboardInterrupt

    def leave_at_exit(self) -> None:
        """When all is said, end at once, and by the last resort at the latest: tearing the
        interpreter down under native threads that cannot be stopped aborts the process."""

        def leave() -> None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self.exit_code)

        self._leaves = True
        atexit.register(leave)
