"""The routes and the views behind them; a user's name is the e-mail address."""

from typing import ClassVar

from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAdminUser
from rest_framework.serializers import ModelSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView


class UserSerializer(ModelSerializer):
    """A user as the API shows it."""

    class Meta:
        """What of the user is shown."""

        model = User
        fields: ClassVar = ["id", "email", "is_active", "is_staff", "is_superuser", "date_joined"]


class UserPagination(CursorPagination):
    """Pages of 50 by id; unlike an offset, a cursor counts no rows."""

    ordering = "id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 100


class Me(RetrieveAPIView):
    """Whoever asks."""

    serializer_class = UserSerializer

    def get_object(self) -> User:
        """The user whom the token named."""
        return self.request.user


class Users(ListAPIView):
    """Every user, a page at a time, for staff."""

    queryset = User.objects.all()
    serializer_class = UserSerializer
    permission_classes: ClassVar = [IsAdminUser]
    pagination_class = UserPagination


def plain(_request: HttpRequest) -> JsonResponse:
    """No user, no database."""
    return JsonResponse({"status": "ok"})


urlpatterns = [
    path("me", Me.as_view()),
    path("users", Users.as_view()),
    path("token", TokenObtainPairView.as_view()),
    path("token/refresh", TokenRefreshView.as_view()),
    path("plain", plain),
]
