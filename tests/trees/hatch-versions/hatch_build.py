"""Makes a file for each version, and records the versions that it was called for."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class VersionsHook(BuildHookInterface):
    """The build hook of this project."""

    def clean(self, versions):
        self._tell("clean", *versions)

    def initialize(self, version, build_data):
        self._tell("initialize", version)
        path = os.path.join("src", "sample", f"for_{version}.txt")
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(version)
        build_data["artifacts"].append(f"/{path}")

    def finalize(self, version, build_data, artifact_path):
        self._tell("finalize", version)

    def _tell(self, *words):
        with open(os.path.join(self.root, "told.txt"), "a", encoding="utf-8") as file:
            file.write(" ".join(words) + "\n")
