"""The share of answers that people accepted, over the last learning cycles: the retrain monitor of runbook 003."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.feedback.learning import recent_learning
from app.monitoring.monitors import Finding, MonitorOptions, Numbers, State, Subject


class Options(MonitorOptions):
    kind: Literal["acceptance"] = "acceptance"
    min: float = Field(0.6, ge=0, le=1, description="breached below it")
    window: int = Field(5, ge=1, le=1_000, description="learning cycles, the newest")
    at_least: int = Field(3, ge=1, le=1_000, description="fewer cycles: unknown")

    @model_validator(mode="after")
    def can_ever_say_something(self) -> Self:
        if self.at_least > self.window:
            raise ValueError(f"at_least is {self.at_least}, and the window holds {self.window}: it would never judge")
        return self


async def read(subject: Subject, options: Options) -> Numbers:
    cycles = await recent_learning(subject.session, subject.model, options.window)
    rates = [float(cycle.accept_rate) for cycle in cycles]
    return {"cycles": len(rates), "rates": rates, "mean": sum(rates) / len(rates) if rates else None}


def judge(options: Options, numbers: Numbers) -> Finding:
    cycles, mean = numbers["cycles"], numbers["mean"]
    if cycles < options.at_least:
        return Finding(State.UNKNOWN, f"{cycles} learning cycles were reported; {options.at_least} are needed.")
    found = f"{mean:.1%} of the answers were accepted over the last {cycles} cycles"
    if mean < options.min:
        return Finding(State.BREACHED, f"{found}, fewer than {options.min:.0%}.")
    return Finding(State.OK, f"{found}.")
