"""A backend that has the worker's own name."""


def get_requires_for_build_wheel(config_settings=None):
    import hookd

    return [hookd.__doc__]
