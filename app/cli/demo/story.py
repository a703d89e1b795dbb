"""What the demo tells on stdout, and what it found otherwise than it promised."""

import time
from dataclasses import dataclass, field

import click

from app.cli.output import printable


@dataclass
class Story:
    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    shortfalls: list[str] = field(default_factory=list)

    def step(self, title: str) -> None:
        self.steps += 1
        click.secho(f"\n{self.steps}  {title}", bold=True)

    def tell(self, line: str) -> None:
        click.echo(f"   {printable(line)}")

    def expect(self, held: bool, promise: str) -> None:
        """Tells what holds, and remembers what does not: then the demo falls short."""
        mark = click.style("✓", fg="green") if held else click.style("✗", fg="red")
        click.echo(f"   {mark} {printable(promise)}")
        if not held:
            self.shortfalls.append(promise)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started
