"""What the operating system gives: descriptors, children, signals, the C library."""
