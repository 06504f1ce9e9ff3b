{
    "name": "An add-on",
    "version": "16.0.1.0.0",
    "depends": ["base", "sale"],
    "external_dependencies": {"python": ["iniconfig"]},
}
