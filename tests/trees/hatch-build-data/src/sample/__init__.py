"""A package, beside which lies a library."""
