"""What was found, as Markdown."""

from benchmarks.bench.bodies import FORMATS, LISTS
from benchmarks.bench.markdown import table
from benchmarks.bench.rounds import Cell, Found, Measured, Results
from benchmarks.bench.systems import REFIT
from benchmarks.peers.uvicorn import BARE

NOTHING = "–"
CONNECTIONS = (1, 8, 64)
RATES = [f"{connections} conn." for connections in CONNECTIONS]
FIGURES = "Requests per second, median (lowest–highest round); ratios are medians of the rounds' own."
PINNED = "The server has one core and the client another."
SHARED = "Servers and client share all cores."


def comparison(found: Found) -> str:
    """Requests per second of all systems by the same rows, and who could not be had."""
    columns = [
        "system",
        *(f"{n} conn." for n in CONNECTIONS),
        "× bare at 64",
        "p99 at 8 (ms)",
        "PSS (MiB)",
        "start (s)",
    ]
    lines = [_of_system(found, system) for system in found.seconds]
    return (
        f"### 100 rows × 30 columns as JSON lists, {_processes(found)}\n\n"
        f"{FIGURES} {PINNED if found.processes == 1 else SHARED}\n\n"
        f"{table(columns, lines)}{_missing(found)}"
    )


def _missing(found: Found) -> str:
    """Who is not in the table, and why."""
    reasons = dict.fromkeys(found.missing.values())
    told = [f"{' · '.join(n for n, why in found.missing.items() if why == reason)}: {reason}" for reason in reasons]
    return f"\n\nNot measured: {'; '.join(told)}." if told else ""


def _of_system(found: Found, system: str) -> list[str]:
    cells = _cells(found.compared, found, system, LISTS, 100)
    at_8 = cells[1]
    return [
        system,
        *(_spread(cell) for cell in cells),
        _times(cells[2], _cells(found.compared, found, BARE.name, LISTS, 100)[2]),
        f"{at_8.p99:.1f}" if at_8 else NOTHING,
        f"{found.megabytes[system]:,.0f}",
        f"{found.seconds[system]:.1f}",
    ]


def formats(found: Found) -> str:
    """Requests per second of Refit by format, rows and connections, beside the bare application."""
    columns = ["", "rows", "body (kB)", *RATES, "× bare lists at 64", "p99 at 8 (ms)"]
    return f"### By format and size of the body, {_processes(found)}\n\n{table(columns, _lines(found))}"


def _processes(found: Found) -> str:
    return "one process" if found.processes == 1 else f"{found.processes} processes"


def _lines(found: Found) -> list[list[str]]:
    """By rows, then Refit before the bare application, each in the order of FORMATS."""
    order = list(FORMATS)
    kinds = {(cell.rows, cell.system != REFIT, order.index(cell.format)) for cell in found.formats}
    return [_line(found, rows, BARE.name if is_bare else REFIT, order[at]) for rows, is_bare, at in sorted(kinds)]


def _line(found: Found, rows: int, system: str, format: str) -> list[str]:
    cells = _cells(found.formats, found, system, format, rows)
    at_8 = cells[1]
    return [
        f"{'Refit' if system == REFIT else 'bare'}, {format}",
        f"{rows:,}",
        f"{at_8.kilobytes:,.1f}" if at_8 else NOTHING,
        *(_spread(cell) for cell in cells),
        _times(cells[2], _cells(found.formats, found, BARE.name, LISTS, rows)[2]),
        f"{at_8.p99:.1f}" if at_8 else NOTHING,
    ]


def _cells(results: Results, found: Found, system: str, format: str, rows: int) -> list[Measured | None]:
    """Of one line, by connections; None where it was not measured."""
    return [results.get(Cell(system, found.processes, format, rows, connections)) for connections in CONNECTIONS]


def _spread(cell: Measured | None) -> str:
    return cell.spread() if cell else NOTHING


def _times(cell: Measured | None, base: Measured | None) -> str:
    return f"{cell.times(base):.2f}" if cell and base else NOTHING
