"""Has one dependency from the configuration, and requests another itself."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DependenciesHook(BuildHookInterface):
    """The build hook of this project."""

    def dependencies(self):
        return ["mypy-extensions"]

    def initialize(self, version, build_data):
        # Not at the top: the module is imported before this dependency is installed.
        import iniconfig
        import mypy_extensions

        path = os.path.join(self.root, "src", "sample", "found.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{iniconfig.__name__} {mypy_extensions.__name__}")
