"""When a definition's trainings are triggered by themselves."""

import re
from typing import Literal

from pydantic import Field, field_validator

from app.monitoring.monitors import MOST_MINUTES
from app.schemas import Strict

# Minutes, hours, days, months, days of the week: a longer step than there are never comes to a second one.
CRON_STEP, CRON_STEPS, MOST_CRON = re.compile(r"/(\d+)"), (59, 23, 31, 12, 7), 200


class Triggers(Strict):
    """When a job is triggered by itself. Times are UTC."""

    schedule: str | None = Field(None, description="cron, five fields; the runbook's is '0 2 * * 0'")
    missed: Literal["run_once", "skip"] = Field(
        "run_once", description="a time that nobody ticked for: made up for once, or left out"
    )
    missed_minutes: float = Field(60, gt=0, le=7 * 24 * 60, description="run_once: beyond so many it is left out")
    cooldown_minutes: float = Field(
        60, ge=0, le=MOST_MINUTES, description="after a training, automatic triggers wait so long"
    )
    weekly_budget: int = Field(7, ge=1, le=10_000, description="automatic trainings in any seven days")

    @field_validator("schedule")
    @classmethod
    def is_cron(cls, value: str | None) -> str | None:
        from croniter import CroniterBadDateError, croniter  # noqa: PLC0415 - half the definitions have no schedule

        if value is None:
            return None
        if len(value) > MOST_CRON or len(value.split()) != 5 or not croniter.is_valid(value):
            raise ValueError("not a cron expression of five fields, such as '0 2 * * 0'")
        for field, most in zip(value.split(), CRON_STEPS, strict=True):
            if odd := [step for step in CRON_STEP.findall(field) if int(step) > most]:
                raise ValueError(f"{field} steps by {odd[0]}, and there are {most} at most")
        try:
            croniter(value).get_next()
        except CroniterBadDateError:
            raise ValueError("no such day ever comes") from None
        return value
