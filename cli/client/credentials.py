"""Sessions, API keys, signing keys and second factors on a server: the methods of their services, as requests."""

from uuid import UUID

from pydantic import BaseModel

from api.api_keys.schemas import ApiKeyCreate, ApiKeyIssued, ApiKeyPage, ApiKeyQuery, ApiKeyRead, ApiKeyRotate
from api.factors.schemas import Factors
from api.oauth.schemas import Introspection
from api.signing_keys.schemas import (
    SigningKeyCreate,
    SigningKeyPage,
    SigningKeyQuery,
    SigningKeyRead,
    SigningKeyRetire,
)
from api.tokens.schemas import (
    TokenCreate,
    TokenIssued,
    TokenPage,
    TokenQuery,
    TokenRead,
    TokensRevoke,
    TokensRevoked,
)
from cli.client.server import M, Method, Server, path_of
from cli.client.users import user_path


class CredentialClient:
    """What somebody or something is known by; each method is that of its service."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def create_token(self, new: TokenCreate) -> TokenIssued:
        return (await self._changed("POST", "/v1/tokens", TokenIssued, body=new))[0]

    async def list_tokens(self, query: TokenQuery) -> tuple[list[TokenRead], str | None]:
        page = await self._server.get("/v1/tokens", TokenPage, query)
        return page.items, page.next_cursor

    async def revoke_token(self, session_id: UUID) -> tuple[TokenRead, bool]:
        return await self._changed("DELETE", path_of("v1", "tokens", str(session_id)), TokenRead)

    async def revoke_tokens(self, which: TokensRevoke) -> TokensRevoked:
        return (await self._changed("DELETE", "/v1/tokens", TokensRevoked, query=which))[0]

    async def introspect_token(self, token: str) -> Introspection:
        return await self._server.look_up("/v1/auth/introspect", Introspection, {"token": token})

    async def create_api_key(self, new: ApiKeyCreate) -> ApiKeyIssued:
        return (await self._changed("POST", "/v1/api-keys", ApiKeyIssued, body=new))[0]

    async def list_api_keys(self, query: ApiKeyQuery) -> tuple[list[ApiKeyRead], str | None]:
        page = await self._server.get("/v1/api-keys", ApiKeyPage, query)
        return page.items, page.next_cursor

    async def rotate_api_key(self, api_key_id: UUID, *, overlap: int) -> ApiKeyIssued:
        path, how = path_of("v1", "api-keys", str(api_key_id), "rotate"), ApiKeyRotate(overlap=overlap)
        return (await self._changed("POST", path, ApiKeyIssued, body=how))[0]

    async def revoke_api_key(self, api_key_id: UUID) -> tuple[ApiKeyRead, bool]:
        return await self._changed("DELETE", path_of("v1", "api-keys", str(api_key_id)), ApiKeyRead)

    async def list_keys(self, query: SigningKeyQuery) -> tuple[list[SigningKeyRead], str | None]:
        page = await self._server.get("/v1/signing-keys", SigningKeyPage, query)
        return page.items, page.next_cursor

    async def rotate_keys(self, new: SigningKeyCreate) -> SigningKeyRead:
        return (await self._changed("POST", "/v1/signing-keys", SigningKeyRead, body=new))[0]

    async def retire_key(self, key_id: UUID, *, force: bool = False) -> tuple[SigningKeyRead, bool]:
        path, how = path_of("v1", "signing-keys", str(key_id)), SigningKeyRetire(force=force)
        return await self._changed("DELETE", path, SigningKeyRead, query=how)

    async def list_factors(self, ref: str) -> Factors:
        return await self._server.get(user_path(ref, "factors"), Factors)

    async def reset_factors(self, ref: str) -> tuple[Factors, bool]:
        return await self._changed("DELETE", user_path(ref, "factors"), Factors)

    async def _changed(
        self,
        method: Method,
        path: str,
        shown: type[M],
        *,
        body: BaseModel | None = None,
        query: BaseModel | None = None,
    ) -> tuple[M, bool]:
        found = await self._server.change(method, path, shown, body=body, query=query)
        return found.body, found.changed
