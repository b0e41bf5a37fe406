"""Names of keys that both Redis wires have, each in a partition of its own."""

import pytest

from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis_wire.keys import Name, WireKeys

SHARED = [name for name, value in vars(WireKeys).items() if isinstance(value, Name)]


@pytest.mark.parametrize(
    ("namespace", "begins"),
    [("api", ("mesa:{api.0}:", "mesa:{api.m1}:")), (None, ("mesa:{.0}:", "mesa:{.m1}:"))],
)
def test_the_wires_share_suffixes_and_no_key(namespace: str | None, begins: tuple[str, str]) -> None:
    native, mesa1 = Keys(namespace), Mesa1Keys(namespace)
    assert len(SHARED) == 9
    for name in SHARED:
        names = (getattr(native, name), getattr(mesa1, name))
        assert names[0].removeprefix(begins[0]) == names[1].removeprefix(begins[1])
        assert (names[0].startswith(begins[0]), names[1].startswith(begins[1])) == (True, True)


def test_each_wire_finds_the_nodes_of_the_other() -> None:
    native, mesa1 = Keys("api"), Mesa1Keys("api")
    assert (native.leases_of_1x, mesa1.native_leases) == (mesa1.leases, native.leases)


def test_names_of_1x_end_with_the_namespace() -> None:
    assert (Mesa1Keys("api").messages, Mesa1Keys().messages) == ("ws_api", "ws")
    assert (Mesa1Keys("api").pool, Mesa1Keys().pool) == (
        "available_portals_pool_api",
        "available_portals_pool",
    )
