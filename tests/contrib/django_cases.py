"""What Django's own test runner runs: the application inside a project."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest
from django.test import TestCase, override_settings

from mesa_ws import BackendUnavailable, Dispatcher, InvalidInput, Message, Refused, Server
from mesa_ws.contrib import django as mesa
from mesa_ws.contrib.django import dispatching
from mesa_ws.contrib.django.configuration import DEFAULTS

HI = Message(0, {"text": "hi"}, "HI")


class Recorder:
    """Notes what is dispatched."""

    def __init__(self, error: Exception | None = None) -> None:
        self.dispatched: list[tuple[Any, ...]] = []
        self._error = error

    def dispatch(self, *args: Any, **options: Any) -> None:
        self.dispatched.append((*args, options))
        if self._error is not None:
            raise self._error


def overridden(**settings: Any) -> Any:
    return override_settings(MESA=settings)


class DispatchTests(TestCase):
    def setUp(self) -> None:
        self.recorder = Recorder()
        overriding = overridden(DISPATCHER=self.recorder)
        overriding.enable()
        self.addCleanup(overriding.disable)

    def test_a_process_has_one_dispatcher_of_the_settings(self) -> None:
        with overridden(URL="redis://127.0.0.1:1", NAMESPACE="shop", DISPATCHER={"timeout": 2.0}):
            one = mesa.dispatcher()
            assert one is mesa.dispatcher()
            assert isinstance(one, Dispatcher)
            one.close()
        assert mesa.dispatcher() is self.recorder  # type: ignore[comparison-overlap]

    def test_threads_that_come_at_once_get_one_dispatcher(self) -> None:
        both = Barrier(2)

        def configured() -> dict[str, Any]:
            with suppress(BrokenBarrierError):
                both.wait(0.5)  # for a second thread, which has to wait for its turn
            return {**DEFAULTS, "DISPATCHER": Recorder()}

        with (
            overridden(),
            mock.patch.object(dispatching, "configured", configured),
            ThreadPoolExecutor(2) as threads,
        ):
            one, other = threads.map(lambda _: mesa.dispatcher(), range(2))
        assert one is other

    def test_a_worker_may_be_forked_while_a_thread_gets_the_dispatcher(self) -> None:
        with dispatching._in_turn[-1]:
            worker = os.fork()
            if worker == 0:
                signal.alarm(20)  # ends a worker that waits
                os._exit(mesa.dispatcher() is not self.recorder)  # type: ignore[comparison-overlap]
        assert os.waitpid(worker, 0)[1] == 0

    def test_a_message_leaves_when_the_transaction_is_committed(self) -> None:
        recipients = ["1"]
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                mesa.dispatch_on_commit(HI, iter(recipients), ["2"], idempotency_key="k", durability="fsync")
                recipients.append("3")
            assert self.recorder.dispatched == []
        options = {"idempotency_key": "k", "durability": "fsync"}
        assert self.recorder.dispatched == [(HI, ["1"], ["2"], options)]

    def test_no_message_leaves_of_what_is_rolled_back(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            try:
                with transaction.atomic():
                    mesa.dispatch_on_commit(HI)
                    raise ValueError
            except ValueError:
                pass
        assert self.recorder.dispatched == []

    def test_bad_input_is_told_before_the_commit(self) -> None:
        recipients: Any = [1]
        with pytest.raises(InvalidInput):
            mesa.dispatch_on_commit(Message(0, object(), "HI"))
        with pytest.raises(InvalidInput):
            mesa.dispatch_on_commit(HI, recipients)
        with pytest.raises(InvalidInput):
            mesa.dispatch_on_commit(HI, ["1"], idempotency_key="")

    def test_a_backend_that_is_away_fails_no_request(self) -> None:
        away = Recorder(BackendUnavailable("Redis is away"))
        with (
            overridden(DISPATCHER=away),
            self.assertLogs("django.test", "ERROR") as logs,
            self.captureOnCommitCallbacks(execute=True),
        ):
            mesa.dispatch_on_commit(HI)
        assert len(away.dispatched) == 1
        assert "dispatch of Message" in logs.output[0]


def connection(cookie: str = "") -> Any:
    return SimpleNamespace(request=SimpleNamespace(headers={"Cookie": cookie} if cookie else {}))


class AuthenticationTests(TestCase):
    def setUp(self) -> None:
        self.user = get_user_model().objects.create_user("anna", password="secret")

    def cookie(self) -> str:
        self.client.force_login(self.user)
        return f"other=1; sessionid={self.client.cookies['sessionid'].value}"

    def test_a_session_is_its_user_until_it_ends(self) -> None:
        cookie, before = self.cookie(), time.time()
        user = mesa.authenticate_session({}, connection(cookie))
        assert (user.id, user.data) == (str(self.user.pk), {"id": str(self.user.pk)})
        assert user.issued_at == pytest.approx(before, abs=60)
        assert user.expires_at == pytest.approx(before + 14 * 24 * 60 * 60, abs=60)

    def test_a_session_that_began_before_the_application_has_no_time(self) -> None:
        cookie = self.cookie()
        session = self.client.session
        del session["_mesa_issued_at"]
        session.save()
        assert mesa.authenticate_session({}, connection(cookie)).issued_at is None

    def test_a_login_without_a_session_is_left_alone(self) -> None:
        for request in (None, HttpRequest()):
            user_logged_in.send(type(self.user), request=request, user=self.user)

    def test_who_is_not_logged_in_is_refused(self) -> None:
        cookie = self.cookie()
        self.client.logout()
        for given in ("", "sessionid=forged", "sessionid=", cookie):
            with pytest.raises(Refused):
                mesa.authenticate_session({}, connection(given))

    def test_a_session_ends_with_the_password_and_is_never_changed(self) -> None:
        cookie = self.cookie()
        with override_settings(
            SECRET_KEY="another", SECRET_KEY_FALLBACKS=["a-secret-of-thirty-two-characters"]
        ):
            mesa.authenticate_session({}, connection(cookie))  # Django would give it a new key here
        key = cookie.partition("sessionid=")[2]
        assert self.client.session.exists(key)
        self.user.set_password("another")
        self.user.save()
        with pytest.raises(Refused):
            mesa.authenticate_session({}, connection(cookie))
        assert self.client.session.exists(key)

    def test_a_token_is_its_user_for_a_time(self) -> None:
        token = mesa.token_for(self.user)
        user = mesa.authenticate_token({"token": token}, connection())
        assert user.id == str(self.user.pk)
        assert user.issued_at == pytest.approx(time.time(), abs=60)
        assert (user.expires_at or 0) - (user.issued_at or 0) == 24 * 60 * 60
        assert mesa.user_of_token(token) == self.user
        later = time.time() + 24 * 60 * 60 + 1
        with (
            mock.patch.object(signing.time, "time", return_value=later),
            pytest.raises(Refused),
        ):
            mesa.authenticate_token({"token": token}, connection())

    def test_tokens_of_others_are_refused(self) -> None:
        token = mesa.token_for(self.user)
        forged = signing.dumps({"id": "1", "iat": 0}, salt="another")
        for data in (None, {}, {"token": 1}, {"token": token + "x"}, {"token": forged}, {"token": ""}):
            with pytest.raises(Refused):
                mesa.authenticate_token(data, connection())
        self.user.is_active = False
        self.user.save()
        with pytest.raises(Refused):
            mesa.authenticate_token({"token": token}, connection())


MADE = Server()


class ConfigurationTests(TestCase):
    def found(self, **settings: Any) -> list[tuple[str, str]]:
        with overridden(**settings):
            return [(each.id, each.msg) for each in run_checks()]

    def test_the_setting_is_checked(self) -> None:
        assert self.found() == []
        [(id, text)] = self.found(URI="redis://localhost")
        assert id == "mesa_ws.E001"
        assert "MESA: expected keys among URL, NAMESPACE," in text
        assert "got URI" in text
        [(id, text)] = self.found(URL="localhost")
        assert id == "mesa_ws.E001"
        [(id, text)] = self.found(DISPATCHER={"tomeout": 1})
        assert id == "mesa_ws.E001"
        [(id, text)] = self.found(AUTHENTICATOR="orders.nowhere")
        assert id == "mesa_ws.E002"
        [(id, text)] = self.found(SERVER={"limits": {"max_message": -1}})
        assert (id, "max_message" in text) == ("mesa_ws.E003", True)
        [(id, text)] = self.found(SERVER={"lemits": {}})
        assert id == "mesa_ws.E003"
        assert self.found(SERVER="tests.contrib.django_cases.MADE") == []
        with override_settings(MESA=["redis://localhost"]):
            assert [each.id for each in run_checks()] == ["mesa_ws.E001"]

    def test_sessions_need_their_application(self) -> None:
        with self.modify_settings(INSTALLED_APPS={"remove": "django.contrib.sessions"}):
            assert [id for id, _ in self.found()] == ["mesa_ws.E004"]
            by_token = "mesa_ws.contrib.django.authenticate_token"
            assert self.found(AUTHENTICATOR=by_token) == []

    def test_the_server_is_that_of_the_settings_or_of_the_project(self) -> None:
        server = mesa.make_server()
        assert server.namespace == "shop"
        assert server.settings.authentication.required
        assert getattr(server.handlers.authenticator, "__name__", None) == "authenticate_session"
        with overridden(SERVER="tests.contrib.django_cases.MADE"):
            assert mesa.make_server() is MADE
            with self.assertRaisesMessage(
                ImproperlyConfigured, "to make a server with namespace, got the path"
            ):
                mesa.make_server(namespace="other")
        assert mesa.make_server(namespace="other").namespace == "other"
        with (
            overridden(SERVER="tests.contrib.django_cases.HI"),
            self.assertRaisesMessage(ImproperlyConfigured, "expected a Server, got Message"),
        ):
            mesa.make_server()

    def test_the_page_says_what_works(self) -> None:
        """The blocks that are no program of the example, which has tests of its own."""
        page = (Path(__file__).parents[2] / "docs/howto/django.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        names: dict[str, Any] = {}
        for block in blocks:
            if block.startswith(("INSTALLED_APPS =", "from ")):
                exec(compile(block, "django.md", "exec"), names)
        assert self.found(**names["MESA"]) == []
        assert names["server"].handlers.authenticator is mesa.authenticate_token
        user = get_user_model().objects.create_user("anna")
        self.client.force_login(user)
        cookie = f"sessionid={self.client.cookies['sessionid'].value}"
        accepted = names["authenticate"]({}, connection(cookie))
        assert (accepted.id, accepted.data) == (str(user.pk), {"name": "anna"})
        assert accepted.issued_at is not None
