"""A module beside the hook, which imports it."""

TEXT = "helper 1"
