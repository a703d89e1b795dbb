"""Every kind of fault. Each is a function that begins it, yields while it lasts, and mends it."""

from benchmarks.chaos.faults import database, machine, messages, processes
from benchmarks.chaos.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    processes.replica_killed,
    processes.replica_frozen,
    processes.replica_joined,
    processes.worker_killed,
    processes.worker_frozen,
    processes.attempt_killed,
    processes.attempt_frozen,
    database.restarted,
    database.restarted_at_once,
    database.killed,
    database.stopped,
    database.backend_killed,
    database.backend_frozen,
    database.replica_cut_off,
    database.worker_cut_off,
    messages.flushed,
    messages.restarted,
    messages.half_open,
    messages.delayed,
    messages.dropped,
    messages.reset,
    messages.bells_repeated,
    messages.bells_forged,
    machine.disk_full,
    machine.clock_shifted,
)
