"""A package with code that runs before its import."""
