"""Who may run, and when: admission, fairness between clients, step budgets, the prefix cache."""

__all__ = ()
