"""`python -m benchmarks.llm [CHANGES]`: the whole road, reloads under streams, kills, gsm8k, and what goes wrong."""

import asyncio

from benchmarks import disks
from benchmarks.llm import breakdowns, failures, gsm8k, kills, road, streams
from benchmarks.report import report, size
from benchmarks.service import running

CHANGES = 40
# Fewer changes than this make the brief form: a kill in the longest stage, and one in the last.
WHOLE, BRIEF = 10, ("sft", "publish")


def main() -> None:
    changes = size(CHANGES)
    disks.lacks_mounts()  # asked while this is the only thread
    with report("road-llm") as told:
        with running(settings=road.SETTINGS) as service:
            road.walk(service, told)
            asyncio.run(streams.reload_under_streams(service, told, changes))
            streams.weigh(service, told)
            kills.kill(service, told, kills.STAGES if changes >= WHOLE else BRIEF)
            failures.tell(service, told)
            gsm8k.tell(service, told)
        breakdowns.tell(told)


if __name__ == "__main__":
    main()
