"""A backend that is a module, and says what it was called with.

Try it with the requests of ``python/example.in``:

    PYTHONPATH=python/tests/backends python python/hookd TREE < python/example.in
"""

import json


class UnsupportedOperation(Exception):
    pass


def _show(*arguments):
    return json.dumps(arguments)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _show(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    if config_settings == {"unsupported": True}:
        raise UnsupportedOperation("no sdist of this")
    return _show(sdist_directory, config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    return _show(metadata_directory, config_settings)


def get_requires_for_build_wheel(config_settings=None):
    print("get_requires_for_build_wheel", config_settings)
    return ["wheel >= 0.25", _show(config_settings)]
