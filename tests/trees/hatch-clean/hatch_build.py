"""Makes a file, and removes all that it has ever made when it is told to clean."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CleanHook(BuildHookInterface):
    """The hook of this project."""

    @property
    def _package(self):
        return Path(self.root, "src", "sample")

    def clean(self, versions):
        for path in self._package.glob("*.made"):
            path.unlink()

    def initialize(self, version, build_data):
        (self._package / "now.made").write_text(version)
