"""A small build backend (PEP 517). It lies in the tree that it builds, and needs nothing but
Python's standard library.
"""

import base64
import hashlib
import io
import os
import tarfile
import zipfile

NAME, VERSION = "hello", "1.0"
DIST_INFO = f"{NAME}-{VERSION}.dist-info"
SOURCES = ["pyproject.toml", "hello.py", "backend/hello_backend.py"]

METADATA = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: hello_backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def get_requires_for_build_wheel(config_settings=None):
    """Say what has to be installed to build a wheel: nothing."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Make the `.dist-info` folder, and return its name."""
    folder = os.path.join(metadata_directory, DIST_INFO)
    os.makedirs(folder, exist_ok=True)
    for name, text in [("METADATA", METADATA), ("WHEEL", WHEEL)]:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    return DIST_INFO


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Make the wheel, and return its name."""
    with open("hello.py", "rb") as file:
        files = {"hello.py": file.read()}
    files[DIST_INFO + "/METADATA"] = METADATA.encode()
    files[DIST_INFO + "/WHEEL"] = WHEEL.encode()
    record = "".join("{},{},{}\n".format(name, *_hash(data)) for name, data in files.items())
    files[DIST_INFO + "/RECORD"] = (record + DIST_INFO + "/RECORD,,\n").encode()

    name = f"{NAME}-{VERSION}-py3-none-any.whl"
    os.makedirs(wheel_directory, exist_ok=True)
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    print("packed", len(files), "files")
    return name


def build_sdist(sdist_directory, config_settings=None):
    """Make the source distribution, and return its name."""
    base = f"{NAME}-{VERSION}"
    os.makedirs(sdist_directory, exist_ok=True)
    with tarfile.open(os.path.join(sdist_directory, base + ".tar.gz"), "w:gz") as archive:
        for path in SOURCES:
            archive.add(path, base + "/" + path)
        info = tarfile.TarInfo(base + "/PKG-INFO")
        info.size = len(METADATA)
        archive.addfile(info, io.BytesIO(METADATA.encode()))
    return base + ".tar.gz"


def _hash(data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "sha256=" + digest, len(data)
