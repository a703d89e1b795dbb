"""`python -m benchmarks.llm [CHANGES]`: the whole road, reloads under streams, kills, gsm8k, and what goes wrong."""

import asyncio

from benchmarks import disks
from benchmarks.llm import breakdowns, failures, gsm8k, kills, road, streams
from benchmarks.report import report, size
from benchmarks.service import running

CHANGES = 40


def main() -> None:
    disks.lacks_mounts()  # asked while this is the only thread
    with report("road-llm") as told:
        with running(settings=road.SETTINGS) as service:
            road.walk(service, told)
            asyncio.run(streams.reload_under_streams(service, told, size(CHANGES)))
            streams.weigh(service, told)
            kills.kill(service, told)
            failures.tell(service, told)
            gsm8k.tell(service, told)
        breakdowns.tell(told)


if __name__ == "__main__":
    main()
