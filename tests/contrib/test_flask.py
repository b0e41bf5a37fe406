"""`mesa_ws.contrib.flask`: one dispatcher for each application."""

import pytest
from flask import Flask

from mesa_ws import Dispatcher, InvalidInput, MemoryHub, MesaError, Message
from mesa_ws.contrib.flask import Mesa


def test_each_application_has_its_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    mesa, dispatchers = Mesa(), []
    for _ in range(2):
        app = Flask("shop")
        app.config["MESA"] = {"url": MemoryHub(), "namespace": "shop", "sync": True}
        mesa.init_app(app)

        @app.post("/greetings/<id>")
        def greet(id: str) -> dict[str, bool]:
            dispatchers.append(mesa.dispatcher)
            return {"stored": mesa.dispatcher.dispatch(Message(0, None, "HI"), [id]).deliveries[id].stored}

        assert [app.test_client().post("/greetings/1").json for _ in range(2)] == [{"stored": True}] * 2
    assert dispatchers[0] is dispatchers[1] is not dispatchers[2] is dispatchers[3]


def test_a_dispatcher_may_be_given_and_options_may_be_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, app = Dispatcher(MemoryHub()), Flask("shop")
    app.config["MESA"] = given
    mesa = Mesa(app)
    with app.app_context():
        assert mesa.dispatcher is given
    monkeypatch.setenv("FLASK_MESA__namespace", "the-shop")
    app = Flask("shop")
    app.config.from_prefixed_env()
    mesa.init_app(app)
    with app.app_context():
        assert isinstance(mesa.dispatcher, Dispatcher)


@pytest.mark.parametrize("wrong", [{"uri": "redis://localhost"}, {"url": "localhost"}])
def test_options_that_cannot_be_used_are_told_at_once(wrong: dict[str, str]) -> None:
    app = Flask("shop")
    app.config["MESA"] = wrong
    with pytest.raises(InvalidInput, match=r'app.config\["MESA"\]: expected the arguments of Dispatcher; '):
        Mesa(app)


def test_an_application_that_was_forgotten_is_named() -> None:
    with (
        Flask("shop").app_context(),
        pytest.raises(MesaError, match="expected init_app to be called with 'shop'"),
    ):
        _ = Mesa().dispatcher
