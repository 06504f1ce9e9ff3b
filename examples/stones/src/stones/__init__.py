"""An example that hatchling builds."""

COUNT = 7
