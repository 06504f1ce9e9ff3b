"""A package that is compiled."""


def double(number: int) -> int:
    """Twice as much."""
    return number * 2
