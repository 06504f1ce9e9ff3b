"""Backends that are objects and classes, at the end of dotted paths."""


class Backend:
    @classmethod
    def get_requires_for_build_wheel(cls, config_settings=None):
        return [cls.__name__]

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        return "sample-1.dist-info"


class Backends:
    main = Backend()
    kind = Backend


backends = Backends()
