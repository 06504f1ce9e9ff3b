"""Needs one distribution by the configuration, and another that it asks for itself."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DependenciesHook(BuildHookInterface):
    """The hook of this project."""

    def dependencies(self):
        return ["mypy-extensions"]

    def initialize(self, version, build_data):
        # Not at the top: this module is imported to ask for what it needs.
        import iniconfig
        import mypy_extensions

        path = os.path.join(self.root, "src", "sample", "found.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{iniconfig.__name__} {mypy_extensions.__name__}")
