"""What is said between a worker and its caller: lines, requests, failures, outcomes."""
