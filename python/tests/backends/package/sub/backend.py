class nested:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return ["nested"]


def get_requires_for_build_wheel(config_settings=None):
    return ["submodule"]
