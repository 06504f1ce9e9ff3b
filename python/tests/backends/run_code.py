"""A backend whose hooks do what the test says, in `config_settings["code"]`.

The code sees `settings` and `directory`, and says what the hook returns by setting `result`.
"""


class UnsupportedOperation(Exception):
    pass


def get_requires_for_build_wheel(config_settings=None):
    return build_wheel(None, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    names = {"settings": config_settings, "directory": wheel_directory, "result": []}
    exec(compile(config_settings["code"], "<code of the test>", "exec"), names)
    return names["result"]
