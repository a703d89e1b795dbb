"""What is decided by a service that runs: each module is one procedure, as people and other services would go by it."""
