"""A package with something for browsers."""
