"""A Redis that speaks TLS: what is said when that fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis

from mesa_ws.dispatcher import AsyncDispatcher, Dispatcher
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.message import Message
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.waiting import until

Dispatch = Callable[[str], Awaitable[object]]

WRONG_WORDS = (os.strerror(1), os.strerror(8))
"""What the system calls the numbers that OpenSSL has for its errors."""


class SecureRedis(RedisServer):
    """A Redis with a port for TLS."""

    def __init__(self, directory: Path, certificate: Path, *options: str) -> None:
        self._secure_port = free_port()
        files = [f"--tls-{name}-file {certificate}" for name in ("cert", "key", "ca-cert")]
        super().__init__(directory, *f"--tls-port {self._secure_port} {' '.join(files)}".split(), *options)

    @property
    def secure_url(self) -> str:
        return f"rediss://127.0.0.1:{self._secure_port}"


@pytest.fixture
def redis(tmp_path: Path, certificate: Path) -> Iterator[SecureRedis]:
    """Serves clients that trust it."""
    server = SecureRedis(tmp_path, certificate, "--tls-auth-clients", "no")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def strict_redis(tmp_path: Path, certificate: Path) -> Iterator[SecureRedis]:
    """Demands the certificate from its clients, too."""
    server = SecureRedis(tmp_path, certificate)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=[Dispatcher, AsyncDispatcher])
async def dispatch(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Dispatch]:
    """Dispatches once to the Redis of a URL; the same tests run over both dispatchers."""
    async with AsyncExitStack() as stack:

        async def dispatch(url: str) -> object:
            message = Message(0, "hello")
            if request.param is AsyncDispatcher:
                there = await stack.enter_async_context(AsyncDispatcher(url, namespace=namespace))
                return await there.dispatch(message, ["0"])
            with Dispatcher(url, namespace=namespace) as here:
                return await asyncio.to_thread(here.dispatch, message, ["0"])

        yield dispatch


async def problem(dispatching: Awaitable[object]) -> str:
    """What is said of a dispatch that fails."""
    with pytest.raises(BackendUnavailable, match="no connection") as raised:
        await dispatching
    text = str(raised.value)
    assert not any(words in text for words in WRONG_WORDS)
    return text


@pytest.mark.parametrize("query", ["ssl_ca_certs={}", "ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE"])
async def test_tls_works(redis: SecureRedis, dispatch: Dispatch, certificate: Path, query: str) -> None:
    assert await dispatch(f"{redis.secure_url}?{query.format(certificate)}")


async def test_a_certificate_that_is_not_trusted_is_said(redis: SecureRedis, dispatch: Dispatch) -> None:
    text = await problem(dispatch(redis.secure_url))
    assert "its certificate cannot be trusted: self-signed certificate" in text
    assert "ssl_ca_certs" in text


async def test_a_client_certificate_is_shown(
    strict_redis: SecureRedis, dispatch: Dispatch, certificate: Path
) -> None:
    files = "&".join(f"ssl_{name}={certificate}" for name in ("ca_certs", "certfile", "keyfile"))
    assert await dispatch(f"{strict_redis.secure_url}?{files}")


async def test_a_client_certificate_that_is_demanded_is_said(
    strict_redis: SecureRedis, dispatch: Dispatch, certificate: Path
) -> None:
    text = await problem(dispatch(f"{strict_redis.secure_url}?ssl_ca_certs={certificate}"))
    assert "client certificate" in text
    assert "ssl_certfile" in text


async def test_sentinels_are_asked_and_followed_with_tls(
    redis: SecureRedis, dispatch: Dispatch, tmp_path: Path, certificate: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "sentinel").mkdir()
    options = ("--tls-auth-clients", "no", "--tls-replication", "yes")
    sentinel = SecureRedis(tmp_path / "sentinel", certificate, *options)
    configuration = tmp_path / "sentinel.conf"
    master = redis.secure_url.rpartition(":")[2]
    configuration.write_text(f"sentinel monitor mymaster 127.0.0.1 {master} 1\n")
    sentinel.start(str(configuration), "--sentinel")
    try:
        where = sentinel.secure_url.removeprefix("rediss://")
        await dispatch(f"rediss+sentinel://{where}/mymaster?ssl_ca_certs={certificate}")
        listeners = int(request.node.callspec.params["dispatch"] is AsyncDispatcher)
        with Redis.from_url(sentinel.url) as client:
            await until(lambda: len(client.client_list(_type="pubsub")) == listeners)
    finally:
        sentinel.stop()
