"""Tables as GitHub and a terminal read them."""

from collections.abc import Sequence


def table(columns: Sequence[str], lines: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table: so many columns of words, aligned to the left, and then figures, to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    ruler = ["-" * width if number < words else f"{'-' * (width - 1)}:" for number, width in enumerate(widths)]
    return "\n".join(_line(cells, widths, words) for cells in (columns, ruler, *lines))


def _line(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    padded = zip(cells, widths, strict=True)
    aligned = [
        cell.ljust(width) if number < words else cell.rjust(width) for number, (cell, width) in enumerate(padded)
    ]
    return f"| {' | '.join(aligned)} |"
