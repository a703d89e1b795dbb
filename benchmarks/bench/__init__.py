"""`make bench`: Refit and what a user would pick instead, measured in the same run and printed as Markdown.

    python -m benchmarks.bench [SIZE] [--out FILE]

    __main__.py     the driver: one service, the sections one after the other, the page, the line
    setting.py      what a section is given; alone.py runs one section by itself
    machine.py      on what it was measured
    markdown.py     tables
    load.py         wrk, on a core of its own
    systems.py      Refit and the peers, running and known to answer rightly
    rounds.py       systems measured in turns; medians and spread

    throughput.py   requests per second and latencies of Refit and the peers (bodies.py tables.py goals.py)
    neighbours.py   small requests beside large ones
    profile.py      where the time of one request goes
    polling.py      status polling that costs nothing, against MLflow's registry (registries.py memory.py)
    pollers.py      predictions with a thousand dashboards beside them (dashboards.py)
    change.py       a change of version under load, on Refit and on the peers (ways.py)

A section is a function

    def measure(setting: Setting, told: Report) -> str

that returns its Markdown (beginning with a `### heading`) and tells its figures and goals to `told`, which makes the
command's line. `Setting` (setting.py) says how long a round is and how many there are, whether this is the short form,
and holds the running service and the folder with the model's versions.
"""
