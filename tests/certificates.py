"""Certificates for tests with TLS, made by openssl."""

import ssl
from pathlib import Path

import pytest

from bench import certificate as openssl
from bench.errors import Skipped


def make_certificate(path: Path) -> Path:
    """Make a self-signed certificate for this machine; certificate and key are in one file."""
    try:
        return openssl.make_certificate(path)
    except Skipped as problem:
        pytest.skip(str(problem))


def server_side(certificate: Path) -> ssl.SSLContext:
    """Return the TLS context of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
