"""The Celery application: `celery --app shop.celery worker`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop", broker=os.environ.get("REDIS", "redis://localhost:6379"))
app.autodiscover_tasks(["orders"])
app.set_default()
