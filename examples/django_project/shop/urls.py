"""What may be called."""

from django.urls import path
from orders import views

urlpatterns = [
    path("sign-in", views.sign_in),
    path("orders", views.place),
    path("orders/<int:number>", views.show),
    path("orders/<int:number>/ship", views.ship),
]
