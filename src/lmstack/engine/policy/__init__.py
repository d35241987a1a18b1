"""Who may run, and when: admission, shares, budgets, prefixes."""

__all__ = ()
