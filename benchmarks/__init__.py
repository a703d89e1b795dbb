"""What Refit promises, shown on a running service: each module is one command, and ends in one line.

    make runbook      the retraining runbook, step by step, with curl
    make datasets     three real data streams, and what the default gate says of each
    make burst        a thousand equal triggers at once
    make kills        kill -9 of each process in the middle of a job, and an empty broker
    make api-process  what a process of the API weighs and how fast it starts
    make latency      from the trigger to the first stage, and of what that time is made
    make bench        requests, polls and changes of version against what one would pick instead
    make swaps        reloads and rollbacks under load, and rollback whatever else is away
    make chaos        faults of every kind while clients call; then the truths against what they saw
    make verify       both protocols searched by Spin, and the coordinator killed at every statement
    make bad-input    a corpus of bad input on every route, every role on every route, schemathesis
    make texts        banking77 end to end, a retraining, kills, and sources that are wrong
    make bench-texts  texts embedded a second, beside sentence-transformers
    make mutants      each line that upholds a truth removed, and the test that is red without it

Each but `verify`, `bench-texts` and `mutants` starts a `refit up` of its own in a temporary folder and leaves nothing
behind. Progress goes to standard error; standard output gets `NAME: figures … ok`, or `… short` with exit code 1 where
a figure misses what is promised.
"""
