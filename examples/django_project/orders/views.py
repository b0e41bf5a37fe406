"""The views; a change of an order is sent to its owner when it is committed."""

import json
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.contrib.auth import authenticate
from django.core.signing import BadSignature
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from mesa_ws.contrib.django import token_for, user_of_token

from . import realtime, tasks
from .models import Order

View = Callable[..., JsonResponse]


def signed_in(view: View) -> View:
    """Authenticate a request by its token."""

    @wraps(view)
    def checked(request: HttpRequest, **arguments: Any) -> JsonResponse:
        try:
            user = user_of_token(request.headers.get("Authorization", "").removeprefix("Bearer "))
        except BadSignature:
            return JsonResponse({"error": "sign in again"}, status=401)
        return view(request, user_id=user.pk, **arguments)

    return checked


def sign_in(request: HttpRequest) -> JsonResponse:
    user = authenticate(request, **json.loads(request.body))
    if user is None:
        return JsonResponse({"error": "wrong name or password"}, status=401)
    return JsonResponse({"token": token_for(user)})


@signed_in
def place(request: HttpRequest, user_id: int) -> JsonResponse:
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(owner_id=user_id, item=wanted["item"], price=wanted["price"])
            realtime.tell_on_commit(order, f"placed-{order.pk}")
            if order.price <= 0:
                raise ValueError("an order costs something")
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"order": order.pk}, status=201)


@signed_in
def show(request: HttpRequest, user_id: int, number: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=number, owner_id=user_id)
    return JsonResponse({"status": order.status, "confirmations": order.confirmations})


@signed_in
def ship(request: HttpRequest, user_id: int, number: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=number, owner_id=user_id)
    transaction.on_commit(partial(tasks.ship.delay, order.pk))
    return JsonResponse({}, status=202)
