"""Unit tests never assert a time, not even through hypothesis."""

from hypothesis import settings

settings.register_profile("mesa", deadline=None)
settings.load_profile("mesa")
