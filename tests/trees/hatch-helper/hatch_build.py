"""Writes texts from this file, its helper and the configuration."""

import os
import sys

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, os.path.dirname(__file__))

import helper

TEXT = "hook 1"


class HelperHook(BuildHookInterface):
    """The build hook of this project."""

    def initialize(self, version, build_data):
        path = os.path.join(self.root, "src", "sample", "texts.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{TEXT}, {helper.TEXT}, {self.config['text']}")
