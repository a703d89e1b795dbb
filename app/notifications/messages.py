"""What is sent: the body of a message, which is the same in every try."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel

from app.events.tables import Event
from app.notifications.rules import common
from app.notifications.sentences import sentence, summary

GROUP = "events.grouped"
TEST = "notification.test"


class Message(BaseModel):
    """`id` is the message's for ever; `title` and `text` are for people, `body` for programs."""

    id: str
    title: str
    text: str
    body: bytes


def message_of(id: str, events: Sequence[Event], suppressed: int, url: str | None) -> Message:
    """The message that tells of `events`, the oldest first; `url` is where people find Refit."""
    assert events, "a message tells of something"
    sentences = [sentence(event) for event in events]
    kind = common(event.kind for event in events) or GROUP
    told = [_told(event, said) for event, said in zip(events, sentences, strict=True)]
    text = summary(sentences, suppressed)
    data: dict[str, Any] = {"event": told[0]} if len(told) == 1 else {"events": told}
    data |= {"model": common(event.model for event in events), "text": text, "suppressed": suppressed}
    if url:
        data["link"] = _link(url, events[0])
    title = sentences[0] if len(sentences) == 1 else f"Refit: {len(sentences)} events"
    return _message(id, kind, events[-1].at, title, data)


def message_of_test(id: str, at: datetime, target: str) -> Message:
    text = f"This is a test of the target {target}. Refit reaches it."
    return _message(id, TEST, at, text, {"model": None, "text": text, "target": target})


def _message(id: str, kind: str, at: datetime, title: str, data: dict[str, Any]) -> Message:
    body = orjson.dumps({"type": kind, "timestamp": at, "data": data}, option=orjson.OPT_UTC_Z)
    return Message(id=id, title=title[:200], text=data["text"], body=body)


def _told(event: Event, said: str) -> dict[str, Any]:
    return {
        name: getattr(event, name)
        for name in Event.__table__.columns.keys()  # noqa: SIM118 - without it, these are columns
    } | {"text": said}


def _link(url: str, event: Event) -> str:
    base = url.rstrip("/")
    if event.kind.startswith("incident."):
        return f"{base}/incidents"
    if event.job_id:
        return f"{base}/training/jobs/{event.job_id}"
    return f"{base}/events?model={event.model}" if event.model else f"{base}/events"
