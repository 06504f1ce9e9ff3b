"""A package with files for browsers."""
