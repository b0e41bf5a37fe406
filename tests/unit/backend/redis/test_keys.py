"""The names of keys keep namespaces and purposes apart."""

import pytest

from mesa_ws.backend.redis.keys import Keys

NAMES = {
    "meta": "mesa:{api}:meta",
    "leases": "mesa:{api.0}:R",
    "counters": "mesa:{api.0}:n",
    "tallies": "mesa:{api.0}:N",
    "graces": "mesa:{api.0}:g",
    "tokens": "mesa:{api.0}:t",
    "portals": "mesa:{api.0}:P",
    "observers": "mesa:{api.0}:O",
    "observed": "mesa:{api.0}:v",
    "dead": "mesa:{api.0}:x",
    "rejected": "mesa:{api.0}:X",
    "broadcast_position": "mesa:{api.b}:m",
    "broadcasts": "mesa:{api.b}:b",
}

NAMES_OF_SOMETHING = {
    "user": "mesa:{api.0}:u:x",
    "held": "mesa:{api.0}:c:x",
    "channel": "mesa:{api.0}:r:x",
    "position": "mesa:{api.0}:m:x",
    "outbox": "mesa:{api.0}:o:x",
    "set_aside": "mesa:{api.0}:z:o:x",
    "done": "mesa:{api.0}:k:x",
    "queue": "mesa:{api.0}:q:x",
    "deliveries": "mesa:{api.0}:y:x",
    "weights": "mesa:{api.0}:h:x",
    "owner": "mesa:{api.0}:l:x",
    "connections": "mesa:{api.0}:w:x",
}


@pytest.mark.parametrize(("purpose", "name"), NAMES.items())
def test_a_key_is_named_for_its_purpose(purpose: str, name: str) -> None:
    assert getattr(Keys("api"), purpose) == name


@pytest.mark.parametrize(("purpose", "name"), NAMES_OF_SOMETHING.items())
def test_a_key_is_named_for_its_purpose_and_for_what_it_is_about(purpose: str, name: str) -> None:
    assert getattr(Keys("api"), purpose)("x") == name


def test_no_namespace_is_the_empty_text() -> None:
    assert (Keys().leases, Keys().meta) == ("mesa:{.0}:R", "mesa:{}:meta")


def test_prefixes_begin_the_names_that_scripts_make() -> None:
    keys = Keys("api")
    made = (keys.users + "x", keys.holdings + "x", keys.channels + "x")
    assert made == (keys.user("x"), keys.held("x"), keys.channel("x"))


def test_an_id_cannot_name_the_key_of_another_purpose() -> None:
    keys = Keys("api")
    assert len({keys.user(":R"), keys.held("u:"), keys.user("c:"), keys.held("c:"), keys.leases}) == 5
