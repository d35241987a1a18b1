"""How good answers are: judges. Tasks, metrics and reports are not written yet."""
