"""What a section of the benchmark is given."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.model import Version
from benchmarks.service import Service

# The default size; from here on timings are long enough to be judged, and every peer takes part.
FULL = 4


@dataclass(frozen=True)
class Setting:
    """`size` is the seconds of one round; below FULL it is the short form, with few systems and no timing goals.

    `service` has the model `tumours` with version 1 active and version 2 in standby; `versions` are the same two as
    folders for the peers, and `scratch` is an empty folder that goes away with the run.
    """

    size: int
    service: Service
    versions: tuple[Version, Version]
    scratch: Path

    @property
    def is_full(self) -> bool:
        return self.size >= FULL
