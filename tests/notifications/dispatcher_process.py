"""A process that tells, to be killed: `python -m tests.notifications.dispatcher_process`, with settings of REFIT_…."""

import asyncio

from app import db
from app.notifications.dispatcher import keep_telling
from app.notifications.sending import Sender
from app.settings import Settings


async def main() -> None:
    config = Settings()
    engine = db.create_engine(config)
    async with Sender(config) as sender:
        await keep_telling(db.create_sessions(engine), config, sender)


asyncio.run(main())
