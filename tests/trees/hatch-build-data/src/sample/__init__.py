"""A package beside a library."""
