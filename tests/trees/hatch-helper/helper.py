"""What the hook imports, from beside itself."""

TEXT = "helper 1"
