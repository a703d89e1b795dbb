"""A seeded storm of faults over a Refit of its own, while clients call it; then DESIGN §2 is held against the record.

    python -m benchmarks.chaos [FAULTS] [--seed N]

house      Postgres, broker, replicas and workers as processes that can be killed, frozen, cut off and started again
faults/    one function a fault; schedule draws them, the same ones for the same seed
clients    who triggers, follows, cancels, swaps and predicts, all the time
history    what every client asked and was told, and when; watcher what the machine's own list of processes shows
truth      what the database says in the end; laws what must hold between the two
"""
