"""TLS options, checked before the first connection, so that the error names the wrong one."""

import os
import ssl
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidSettings

_CHECKS = ("none", "optional", "required")


def checked_tls(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return redis-py's options of a TLS connection, with `ssl_cert_reqs` in the form that it accepts.

    Raises:
        InvalidSettings: a file cannot be read or has the wrong content, or an option is wrong.
    """
    checked = dict(options)
    if "ssl_cert_reqs" in options:
        checked["ssl_cert_reqs"] = _cert_reqs(options["ssl_cert_reqs"])
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        _check_readable(name, options.get(name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _check_trust(context, options)
    _check_own(context, options)
    return checked


def _cert_reqs(given: object) -> str:
    """Read the certificate check in any of its spellings; redis-py treats None as "none"."""
    name = "none" if given is None else getattr(given, "name", given)
    plain = str(name).lower().removeprefix("cert_")
    if plain not in _CHECKS:
        raise InvalidSettings("redis.ssl_cert_reqs", "none, optional or required", given)
    return plain


def _check_readable(name: str, path: Any) -> None:
    if path is None:
        return
    try:
        os.listdir(path) if name == "ssl_ca_path" else open(path, "rb").close()
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        kind = "directory" if name == "ssl_ca_path" else "file"
        raise InvalidSettings(f"redis.{name}", f"a readable {kind} ({reason})", path) from None


def _check_trust(context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
    file, data = options.get("ssl_ca_certs"), options.get("ssl_ca_data")
    for name, given in (("ssl_ca_certs", {"cafile": file}), ("ssl_ca_data", {"cadata": data})):
        if not any(given.values()):
            continue
        try:
            context.load_verify_locations(**given)
        except (ssl.SSLError, TypeError, ValueError):
            got = file if name == "ssl_ca_certs" else "something else"
            raise InvalidSettings(f"redis.{name}", "certificates in PEM", got) from None


def _check_own(context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
    certificate: Any
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if not certificate and not key:
        return
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, options.get("ssl_password") or "")
    except (ssl.SSLError, TypeError, ValueError):
        expected = (
            "a certificate in PEM, and its key in the same file or in ssl_keyfile, "
            "unlocked by ssl_password if it is locked"
        )
        raise InvalidSettings("redis.ssl_certfile", expected, (certificate, key)) from None
