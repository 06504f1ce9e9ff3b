import nobody_has_this_module  # noqa: F401
