"""Where the evidence of an incident lies, as `{kind, id, href}`: what a person opens at 3 a.m."""

from typing import Any

Link = dict[str, Any]


def to_job(id: int) -> Link:
    return _link("job", id, f"/training/jobs/{id}")


def to_version(model: str, number: int) -> Link:
    return _link("version", f"{model}/{number}", f"/model/versions/{model}/{number}")


def to_event(id: int) -> Link:
    """The page of the record that begins with this event."""
    return _link("event", id, f"/events?after={id + 1}&limit=1")


def to_watch(id: int) -> Link:
    return _link("watch", id, f"/monitoring/watches/{id}")


def to_monitor(model: str, name: str) -> Link:
    return _link("monitor", f"{model}/{name}", f"/monitoring/monitors?model={model}")


def _link(kind: str, id: int | str, href: str) -> Link:
    return {"kind": kind, "id": id, "href": href}
