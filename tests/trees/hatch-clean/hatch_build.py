"""Makes a file; `clean` removes all files that it has made."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CleanHook(BuildHookInterface):
    """The build hook of this project."""

    @property
    def _package(self):
        return Path(self.root, "src", "sample")

    def clean(self, versions):
        for path in self._package.glob("*.made"):
            path.unlink()

    def initialize(self, version, build_data):
        (self._package / "now.made").write_text(version)
