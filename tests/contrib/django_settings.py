"""Settings of the tests of `mesa_ws.contrib.django`."""

SECRET_KEY = "a-secret-of-thirty-two-characters"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "mesa_ws.contrib.django",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MESA = {"URL": "redis://127.0.0.1:1", "NAMESPACE": "shop", "SERVER": {"authentication": {"required": True}}}
