"""`--template`: a process that imports modules ahead of hooks, and forks workers."""
