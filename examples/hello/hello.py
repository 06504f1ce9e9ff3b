"""What the example's wheel installs."""


def greet() -> str:
    """Return what the example has to say."""
    return "Hello from a wheel."
