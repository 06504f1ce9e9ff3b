"""The build hook of all targets without their own hook."""

import json
import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AllTargetsHook(BuildHookInterface):
    """Records itself and the hooks that ran before it."""

    def initialize(self, version, build_data):
        told = {
            "module": "hatch_build",
            "label": self.config["label"],
            "target": self.target_name,
            "build_hooks": build_data["build_hooks"],
            "version_was_written": os.path.exists(
                os.path.join(self.root, "src", "sample", "version.txt")
            ),
        }
        path = os.path.join(self.root, "told.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(told, file)
        build_data["force_include"][path] = "src/sample/told.json"
