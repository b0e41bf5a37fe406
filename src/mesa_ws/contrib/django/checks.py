"""System checks of the setting `MESA`."""

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from ...errors import InvalidInput
from .configuration import DEFAULTS, configured, make_server
from .dispatching import dispatcher

_SESSIONS = "django.contrib.sessions"


def check_setting(**_: Any) -> list[CheckMessage]:
    """Make the dispatcher and the server, which connect to nothing yet, and report what is wrong.

    A server of the project's own is not imported, since it may need what is checked here.
    """
    try:
        found = configured()
        dispatcher()
    except (ImproperlyConfigured, InvalidInput, TypeError) as error:
        return [Error(str(error), id="mesa_ws.E001")]
    if isinstance(found["SERVER"], str):
        return []
    try:
        make_server()
    except ImportError as error:
        hint = "the dotted path of a function that takes the client's data and its connection"
        return [Error(f'MESA["AUTHENTICATOR"]: {error}', hint=hint, id="mesa_ws.E002")]
    except (ImproperlyConfigured, InvalidInput, TypeError) as error:
        return [Error(f'MESA["SERVER"]: {error}', id="mesa_ws.E003")]
    if found["AUTHENTICATOR"] == DEFAULTS["AUTHENTICATOR"] and not apps.is_installed(_SESSIONS):
        what = f"clients authenticate by their session, and {_SESSIONS} is not in INSTALLED_APPS"
        hint = 'add it, or set MESA["AUTHENTICATOR"] to "mesa_ws.contrib.django.authenticate_token"'
        return [Error(what, hint=hint, id="mesa_ws.E004")]
    return []
