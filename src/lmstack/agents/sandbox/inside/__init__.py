"""What runs inside the sandbox: Python's standard library alone, no import of lmstack.

The folder is mounted there by itself, as the package ``inside``, so its files import each other by
relative names.
"""

__all__ = ()
