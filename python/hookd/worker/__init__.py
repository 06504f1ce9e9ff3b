"""The worker: a conversation with its caller, and the two ways to run a hook."""
