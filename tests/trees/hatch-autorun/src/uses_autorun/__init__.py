"""A package before whose import something runs."""
