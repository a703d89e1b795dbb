"""What the schemas of every room share."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.schemas import Time

TIME: TypeAdapter[datetime] = TypeAdapter(Time)


@pytest.mark.parametrize("number", [0, 1.5, "0", "1795238400", "-1", "1e9", " 12 "])
def test_a_number_is_no_time(number: Any) -> None:
    """It would be seconds or milliseconds, by how large it is."""
    with pytest.raises(ValidationError, match="written out"):
        TIME.validate_python(number)


def test_a_time_is_written_out() -> None:
    assert TIME.validate_python("2026-11-21T03:00:00Z") == datetime(2026, 11, 21, 3, tzinfo=UTC)
