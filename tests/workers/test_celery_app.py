"""What comes through the broker is data, never code."""

from workers.celery_app import app


def test_a_worker_reads_messages_of_json_alone() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
