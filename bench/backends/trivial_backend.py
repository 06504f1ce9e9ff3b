"""A build backend whose hook does nothing, so that everything measured is overhead."""

from __future__ import annotations


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Return no requirements."""
    return []
