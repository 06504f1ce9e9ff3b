"""hatchling, but it builds a wheel in all versions that the project lists."""

import os

from hatchling.build import *  # noqa: F403
from hatchling.builders.wheel import WheelBuilder


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Both versions have the same name, so the last one remains."""
    builder = WheelBuilder(os.getcwd())
    made = list(
        builder.build(directory=wheel_directory, versions=builder.config.versions, clean=True)
    )
    return os.path.basename(made[-1])
