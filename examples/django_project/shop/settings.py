"""Settings of the shop; what differs between machines is in the environment."""

import os

SECRET_KEY = os.environ["SECRET_KEY"]
REDIS = os.environ.get("REDIS", "redis://localhost:6379")
CELERY_BROKER_URL = REDIS
MESA = {
    "URL": REDIS,
    "NAMESPACE": "shop",
    "SYNC": True,
    "AUTHENTICATOR": "mesa_ws.contrib.django.authenticate_token",
    "SERVER": {"portals": True, "authentication": {"required": True}},
}
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "mesa_ws.contrib.django", "orders"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "shop.sqlite3"),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
