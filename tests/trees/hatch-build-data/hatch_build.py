"""Records and changes every field of the build data."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildDataHook(BuildHookInterface):
    """The build hook of this project."""

    def initialize(self, version, build_data):
        self._note("initialize", version, build_data)
        root = Path(self.root)
        (root / "src/sample/generated.py").write_text("VALUE = 'generated'\n")
        build_data["artifacts"].append("/src/sample/generated.py")
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-shared", "-fPIC", "-o", "src/lib.so", "src/lib.c"]
        subprocess.run(command, cwd=root, check=True)
        forms = {"relative": "src/lib.so", "absolute": str(root / "src/lib.so")}
        build_data["force_include"][forms[self.config["form"]]] = "src/lib.so"
        build_data["dependencies"].append("iniconfig>=2")
        if self.target_name == "wheel":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["extra_metadata"]["notes.txt"] = "notes.txt"
            build_data["shared_data"]["data.txt"] = "share/sample/data.txt"
            build_data["shared_scripts"]["tool.sh"] = "sample-tool"
            build_data["force_include_editable"]["notes.txt"] = "only-editable.txt"

    def finalize(self, version, build_data, artifact_path):
        self._note("finalize", version, build_data, artifact=os.path.basename(artifact_path))
        if self.target_name == "wheel":
            with zipfile.ZipFile(artifact_path, "a") as wheel:
                wheel.writestr("sample/finalized.txt", " ".join(build_data["dependencies"]))
        # Too late for this artifact, and later builds must not see it.
        build_data["artifacts"].clear()
        build_data["force_include"]["no/such/file"] = "nowhere"
        build_data["dependencies"].append("no-such-distribution")
        build_data["build_hooks"] = ("another",)

    def _note(self, stage, version, build_data, **more):
        seen = {"stage": stage, "target": self.target_name, "version": version, **more}
        seen["build_data"] = build_data
        with open(os.path.join(self.root, "seen.jsonl"), "a", encoding="utf-8") as notes:
            notes.write(json.dumps(seen) + "\n")
