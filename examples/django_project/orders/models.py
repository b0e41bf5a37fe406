"""Orders, and which messages of clients have been dealt with."""

from django.contrib.auth.models import User
from django.db import models


class Order(models.Model):
    """What a customer has ordered."""

    owner = models.ForeignKey(User, models.CASCADE)
    item = models.CharField(max_length=80)
    price = models.IntegerField()
    status = models.CharField(max_length=20, default="placed")
    confirmations = models.IntegerField(default=0)


class HandledEvent(models.Model):
    """A message that has had its effect; it is written in the transaction of that effect."""

    key = models.CharField(max_length=200, primary_key=True)
