"""Small requests beside one client that sends batches of 10,000 rows without pause: they must not wait for those."""

from statistics import median

from benchmarks.bench import bodies
from benchmarks.bench.alone import alone
from benchmarks.bench.load import Load, beside
from benchmarks.bench.load import measure as send
from benchmarks.bench.markdown import table
from benchmarks.bench.setting import Setting
from benchmarks.bench.systems import keyed
from benchmarks.peers import Request
from benchmarks.peers.model import rows_of
from benchmarks.report import Report

CONNECTIONS = 8
LARGE = 10_000
ROUNDS = 3


def measure(setting: Setting, told: Report) -> str:
    """One row at a time over eight connections, alone and beside the large batches in turns; nothing is pinned."""
    service = setting.service
    rows = rows_of(service, LARGE)
    small, large = (keyed(service, bodies.lists(some)) for some in (rows[:1], rows))
    alone, crowded = [], []
    for _ in range(ROUNDS):
        alone.append(_small(service.url, small, setting.size))
        with beside(service.url, large, 1):
            crowded.append(_small(service.url, small, setting.size))
    wrong = sum(load.wrong for load in (*alone, *crowded))
    before, after = (median(load.p99 for load in loads) for loads in (alone, crowded))
    told.tell(f"p99 of 1 row {before:.1f} ms, beside batches of {LARGE:,} rows {after:.1f} ms", wrong == 0)
    lines = [_line("alone", alone), _line(f"beside batches of {LARGE:,} rows", crowded)]
    columns = [f"1 row, {CONNECTIONS} connections", "requests/s", "p50 (ms)", "p99 (ms)"]
    return f"### Small requests beside a large one\n\n{table(columns, lines)}"


def _small(url: str, request: Request, seconds: int) -> Load:
    return send(url, request, CONNECTIONS, seconds, apart=False)


def _line(name: str, loads: list[Load]) -> list[str]:
    rate, p50, p99 = (median(values) for values in zip(*((x.rate, x.p50, x.p99) for x in loads), strict=True))
    return [name, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}"]


if __name__ == "__main__":
    alone("neighbours", measure)
