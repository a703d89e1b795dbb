"""Whatever lies in the broker's queue, the worker goes on hearing its bells."""

import uuid
from contextlib import closing

import pytest
import redis

from workers.celery_app import app

RUBBISH = [
    b"",
    b"\x00\xff",
    b"rubbish",
    b"null",
    b"17",
    b"[]",
    b"{}",
    b'{"body": "e30=", "properties": {}}',
    b'{"body": "e30=", "properties": {"delivery_tag": []}}',
]


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_bell_behind_rubbish_is_heard(broker_url: str, rubbish: bytes) -> None:
    name = uuid.uuid4().hex
    with (
        redis.Redis.from_url(broker_url) as broker,
        app.connection_for_read(broker_url) as connection,
        closing(connection.SimpleQueue(name)) as queue,
    ):
        broker.lpush(name, rubbish)
        queue.put([17])
        heard = queue.get(timeout=5)
        # What is not acknowledged would be put back at the end, over connections that nobody closes.
        heard.ack()
        assert heard.payload == [17]
