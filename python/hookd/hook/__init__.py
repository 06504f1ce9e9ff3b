"""A hook: its process, its output, what it imports, and how it ends."""
