"""The project. Celery's application comes with it, so that views find where to send tasks."""

from .celery import app as celery_app

__all__ = ["celery_app"]
