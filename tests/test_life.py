"""Everything at once, in any order: a state machine against the real code and a real Postgres.

Hypothesis triggers, claims, loses, cancels, finishes, stages, reloads and rolls back, with workers that were given up
and go on to write; after every step the truths of the design hold.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.db import clock
from app.errors import RefitError
from app.registry import swap
from app.registry.promotion import promote
from app.registry.swap import Change
from app.registry.tables import ModelSlots
from app.settings import Settings
from app.training import service, state
from app.training.schemas import TriggerRequest
from app.training.state import Claim, JobState
from app.training.sweep import sweep
from app.training.tables import TrainingJob
from tests.factories import ALICE, LEASE, candidate, define, expire_lease, numbers
from tests.witness import Witness

MODELS = st.sampled_from(["a", "b"])
WORKERS = st.integers(0, 1)
YES_OR_NO = st.booleans()
# How far back: of claims and versions the newest are of interest, and all those before them now and then.
BACK = st.one_of(st.integers(0, 2), st.integers(0, 1_000))
VERDICTS = st.sampled_from(["pass", "pass", "fail", "inconclusive"])
WRITES = st.sampled_from(["renew", "advance", "fail", "confirm", "release", "drain"])
KEYS = st.sampled_from([None, "k1", "k2"])

EVENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "trigger": {"name": MODELS, "epochs": st.integers(1, 2), "high": YES_OR_NO, "key": KEYS},
    "claim": {"worker": WORKERS},
    "lose": {"back": BACK},
    "sweep": {},
    "complete": {"back": BACK, "verdict": VERDICTS},
    "other_writes": {"back": BACK, "what": WRITES},
    "cancel": {"back": BACK},
    "stage": {"name": MODELS, "back": BACK, "force": YES_OR_NO},
    "reload": {"name": MODELS, "force": YES_OR_NO, "watch": st.sampled_from([0.0, 30.0])},
    "rollback": {"name": MODELS, "hold": YES_OR_NO, "back": st.one_of(st.none(), BACK)},
    "hold": {"name": MODELS, "on": YES_OR_NO},
    "promote": {},
    # Several of these in a row, as they belong together, so that whatever begins where they end is met often.
    "train": {"name": MODELS, "worker": WORKERS, "verdict": VERDICTS},
    "wake": {"name": MODELS, "worker": WORKERS, "swept": YES_OR_NO, "what": WRITES},
    "introduce": {"name": MODELS, "verdict": VERDICTS, "overtaken": YES_OR_NO},
}
Of = Callable[[Claim], Callable[[AsyncSession], Awaitable[Any]]]


class Life(RuleBasedStateMachine):
    """Models `a` and `b` of one run; `claims` has every claim ever given, also those that were lost since."""

    config: Settings
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        Life.runs += 1
        self.queue = f"q{Life.runs}"
        self.loop = asyncio.Runner()
        self.engine = db.create_engine(self.config)
        self.sessions = db.create_sessions(self.engine)
        self.workers = (uuid.uuid4(), uuid.uuid4())
        self.claims: list[Claim] = []
        self.incumbents: dict[int, int | None] = {}
        self.fences: dict[int, int] = {}
        self.witness = Witness((self.model("a"), self.model("b")))

    @initialize()
    def begin(self) -> None:
        """`a` has been through a swap already, `b` begins with nothing."""
        self.do(lambda s: define(s, self.model("a"), queue=self.queue))
        self.do(lambda s: define(s, self.model("b"), queue=self.queue, promotion={"reload": "automatic"}))
        for _ in range(2):
            self.introduce("a", verdict="pass", overtaken=False)

    # One rule and not one for each event: of many rules Hypothesis leaves out half in every run.
    @rule(event=st.one_of(*(st.tuples(st.just(name), st.fixed_dictionaries(of)) for name, of in EVENTS.items())))
    def happens(self, event: tuple[str, dict[str, Any]]) -> None:
        name, of = event
        getattr(self, name)(**of)

    @invariant()
    def truths_hold(self) -> None:
        self.do(self.witness.check)

    def do(self, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
        """In one transaction; a refusal of Refit's own changes nothing and is an answer like any other."""

        async def transaction() -> Any:
            try:
                async with self.sessions() as session, session.begin():
                    return await work(session)
            except RefitError as refused:
                return refused

        return self.loop.run(transaction())

    def model(self, name: str) -> str:
        return f"{name}{Life.runs}"

    def claimed(self, back: int) -> Claim:
        return self.claims[-1 - back % len(self.claims)]

    def version(self, name: str, back: int) -> int | None:
        published: list[int] = self.do(lambda s: numbers(s, self.model(name)))
        return published[-1 - back % len(published)] if published else None

    def trigger(self, name: str, epochs: int = 1, high: bool = False, key: str | None = None) -> None:
        priority: Any = "high" if high else "normal"
        request = TriggerRequest(model=self.model(name), params={"epochs": epochs}, priority=priority)
        own = None if key is None else f"{key}-{Life.runs}-{name}"
        self.do(lambda s: service.trigger(s, self.config, request, ALICE, idempotency_key=own))

    def claim(self, worker: int) -> None:
        async def claim(session: AsyncSession) -> None:
            job = await state.claim(session, self.workers[worker], [self.queue], LEASE)
            if job is None:
                return
            assert job.owner is not None
            assert job.fence > self.fences.get(job.id, 0)
            self.fences[job.id] = job.fence
            self.claims.append(Claim(job.id, job.model, job.owner, job.fence, job.attempt))
            slots = await session.get_one(ModelSlots, job.model)
            self.incumbents[job.id] = slots.active

        self.do(claim)

    def lose(self, back: int) -> None:
        self.do(lambda s: expire_lease(s, self.claimed(back).job_id, only_running=True))

    def sweep(self) -> None:
        self.do(sweep)

    def complete(self, back: int, verdict: str) -> None:
        def publish(claim: Claim) -> Callable[[AsyncSession], Awaitable[Any]]:
            version = candidate(verdict=verdict, incumbent=self.incumbents[claim.job_id])
            return lambda s: state.complete(s, claim, version)

        self.write(back, publish)

    def other_writes(self, back: int, what: str) -> None:
        writes: dict[str, Of] = {
            "renew": lambda c: lambda s: state.renew(s, c, LEASE),
            "advance": lambda c: lambda s: state.advance(s, c, stage="search"),
            "fail": lambda c: lambda s: state.fail(s, c, {"code": "x", "message": "x", "remedy": "x"}),
            "confirm": lambda c: lambda s: state.confirm_cancelled(s, c),
            "release": lambda c: lambda s: state.release(s, c, reason="x", counts=True),
            "drain": lambda c: lambda s: state.release(s, c, reason="x", counts=False),
        }
        self.write(back, writes[what])

    def write(self, back: int, of: Of) -> None:
        """A write by any claim that was ever given; only the one that stands may change anything."""
        claim = self.claimed(back)
        stands = self.do(lambda s: self.stands(s, claim))
        written = self.do(of(claim))
        assert bool(written) == stands

    async def stands(self, session: AsyncSession, claim: Claim) -> bool:
        """By what the row says, and not by the code under test."""
        job = await session.get_one(TrainingJob, claim.job_id)
        now = (await session.scalars(select(clock()))).one()
        own = (job.owner, job.fence) == (claim.owner, claim.fence)
        return own and job.state == JobState.RUNNING and job.lease_until is not None and now < job.lease_until

    def cancel(self, back: int) -> None:
        self.do(lambda s: state.request_cancel(s, self.claimed(back).job_id, actor="x", reason=None))

    def stage(self, name: str, back: int, force: bool = False) -> None:
        number = self.version(name, back)
        if number is not None:
            self.do(lambda s: swap.stage(s, Change(self.model(name), "x", "x", force=force), number))

    def reload(self, name: str, force: bool = False, watch: float = 0.0) -> None:
        self.do(lambda s: swap.reload(s, Change(self.model(name), "x", "x", force=force), watch_minutes=watch))

    def rollback(self, name: str, hold: bool, back: int | None) -> None:
        change = Change(self.model(name), "x", "x")
        number = None if back is None else self.version(name, back)
        restored = self.do(lambda s: swap.restore(s, change, number))
        if not isinstance(restored, RefitError):
            target = restored[0]
            rolled = self.do(lambda s: swap.rollback(s, change, target, hold=hold))
            assert rolled.slots.active == target
            assert not hold or not rolled.changed or rolled.slots.hold_reason

    def hold(self, name: str, on: bool) -> None:
        self.do(lambda s: (swap.hold if on else swap.unhold)(s, Change(self.model(name), "x", "x")))

    def promote(self) -> None:
        async def held(session: AsyncSession) -> dict[str, int]:
            rows = await session.scalars(select(ModelSlots).where(ModelSlots.hold_reason.is_not(None)))
            return {row.model: row.revision for row in rows}

        before = self.do(held)
        self.do(promote)
        after = self.do(held)
        assert before.items() <= after.items(), "automation changed slots that are held"

    def train(self, name: str, worker: int, verdict: str) -> None:
        self.trigger(name)
        self.claim(worker)
        self.complete(0, verdict)

    def wake(self, name: str, worker: int, swept: bool, what: str) -> None:
        """A worker sleeps until its lease has run out, may claim the job again, and goes on where it was."""
        self.trigger(name)
        self.claim(worker)
        self.lose(0)
        if swept:
            self.sweep()
            self.claim(worker)
        self.other_writes(1 if swept else 0, what)

    def introduce(self, name: str, verdict: str, overtaken: bool) -> None:
        """A version becomes active; one that was judged before, against another one, may come too late."""
        for _ in range(1 + overtaken):
            self.train(name, 0, verdict)
        for back in range(1 + overtaken):
            self.stage(name, back)
            self.reload(name)

    def teardown(self) -> None:
        self.loop.run(self.engine.dispose())
        self.loop.close()


def test_no_order_of_events_breaks_a_truth(config: Settings) -> None:
    Life.config = config.model_copy(update={"database_pool": 2, "job_max_attempts": 2})
    limits = hypothesis_settings(
        max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Life, settings=limits)
