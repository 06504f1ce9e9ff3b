"""An example that setuptools builds."""

__version__ = "0.3"
NAMES = ["Elbe", "Rhine"]
