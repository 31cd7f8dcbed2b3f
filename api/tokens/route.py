"""How the OAuth endpoints read a form. HTTP only."""

from collections import Counter
from typing import Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.core.errors import InvalidInput
from api.core.plans import Handle
from api.tokens.refusals import OAuthError

FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


class OAuthRoute(APIRoute):
    """A route that refuses what it cannot read with 400 and `error`, as RFC 6749, section 5.2, has it."""

    def get_route_handler(self) -> Handle:
        """Return FastAPI's own handler, with that around it."""
        return self.around(super().get_route_handler())

    def around(self, handle: Handle) -> Handle:
        """Return a handler that reads the form first (see `core.plans`)."""

        async def read(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in FORMS and await request.body():
                raise OAuthError("The body is no form", hint=f"send it as {FORMS[0]}")
            await request.app.state.runtime.turn.take()
            try:
                # Kept by the request: FastAPI does not read it again.
                form = await request.form()
            except HTTPException as error:
                if error.status_code != 400:
                    raise
                raise OAuthError("The form cannot be read", cause=error.detail) from None
            except UnicodeError:
                # Starlette decodes by whatever charset a client names.
                raise OAuthError("The form cannot be read", hint="send it in UTF-8") from None
            # Section 3.2: what one program takes the first of, and the next one the last, is nobody's meaning.
            twice = [name for name, count in Counter(name for name, _ in form.multi_items()).items() if count > 1]
            if twice:
                raise OAuthError("A parameter is there more than once", hint="send each once")
            try:
                return await handle(request)
            except RequestValidationError as error:
                refused = InvalidInput.of(error.errors())
                raise OAuthError(refused.detail, errors=refused.errors) from None

        return read
