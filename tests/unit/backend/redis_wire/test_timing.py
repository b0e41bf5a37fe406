"""The durations that Redis is used with."""

import pytest

from mesa_ws.backend.redis_wire.timing import Timing
from mesa_ws.errors import InvalidSettings


@pytest.mark.parametrize("name", ["timeout", "lease", "expiry"])
@pytest.mark.parametrize("value", [0, -1, 1e9, float("nan"), "5", None])
def test_a_duration_that_is_none_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name}: expected a number of seconds"):
        Timing(**{name: value})  # type: ignore[arg-type]


def test_what_is_kept_has_to_outlive_a_lease() -> None:
    with pytest.raises(InvalidSettings, match=r"^expiry: expected at least twice the lease, 20 s, got 15"):
        Timing(lease=10, expiry=15)
