"""The application of Django."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.core.checks import register

from .authentication import note_login
from .checks import check_setting


class MesaConfig(AppConfig):
    """Adds the checks, and notes when sessions are logged in."""

    name = "mesa_ws.contrib.django"
    label = "mesa_ws"
    verbose_name = "Mesa"

    def ready(self) -> None:
        """Connect what Django calls."""
        register(check_setting)
        user_logged_in.connect(note_login)
