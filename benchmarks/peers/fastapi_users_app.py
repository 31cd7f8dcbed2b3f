"""A peer for the benchmark: FastAPI with fastapi-users on SQLAlchemy and asyncpg, as its documentation builds one.

`python -m benchmarks.peers.fastapi_users_app seed N` makes the table in an empty database and fills it. fastapi-users
has no refresh tokens, so there is no route for them here.
"""

import argparse
import asyncio
import os
import secrets
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper
from sqlalchemy import make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

# One worker needs no shared secret; a run of several sets the variable.
SECRET = os.environ.get("BENCH_SECRET") or secrets.token_urlsafe(48)
PASSWORD = "correct horse battery staple"
SEED = text("""
    INSERT INTO "user" (id, email, hashed_password, is_active, is_superuser, is_verified)
    SELECT gen_random_uuid(), 'user' || n || '@example.com', :hashed, true, n = 1, true
    FROM generate_series(1, :users) AS n
""")

engine = create_async_engine(make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql+asyncpg"))
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The tables of this application."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """The user table as fastapi-users brings it."""


class UserRead(schemas.BaseUser[uuid.UUID]):
    """A user as the API shows it."""


class UserUpdate(schemas.BaseUserUpdate):
    """What may be changed of a user."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The rules of fastapi-users, unchanged."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_session() -> AsyncGenerator[AsyncSession]:
    """One session for each request."""
    async with new_session() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user_db(session: Session) -> AsyncGenerator[SQLAlchemyUserDatabase[User, uuid.UUID]]:
    """The users of this request's session."""
    yield SQLAlchemyUserDatabase(session, User)


UserDatabase = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]


async def get_user_manager(user_db: UserDatabase) -> AsyncGenerator[UserManager]:
    """The manager of this request's users."""
    yield UserManager(user_db)


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """Signed tokens that live for an hour."""
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


backend = AuthenticationBackend(
    name="jwt", transport=BearerTransport(tokenUrl="auth/jwt/login"), get_strategy=get_jwt_strategy
)
users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
app = FastAPI()
app.include_router(users.get_auth_router(backend), prefix="/auth/jwt", tags=["auth"])
app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users", tags=["users"])


@app.get(
    "/users", dependencies=[Depends(users.current_user(active=True, superuser=True))], response_model=list[UserRead]
)
async def list_users(session: Session, limit: Annotated[int, Query(ge=1, le=100)] = 50) -> Sequence[User]:
    """The first users by id, for a superuser."""
    return (await session.scalars(select(User).order_by(User.id).limit(limit))).all()


@app.get("/plain")
async def plain() -> dict[str, str]:
    """No user, no database."""
    return {"status": "ok"}


async def seed(count: int) -> None:
    """Make the table, and `count` users that share one password hash; the first is a superuser."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(SEED, {"hashed": PasswordHelper().hash(PASSWORD), "users": count})
    await engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.fastapi_users_app")
    parser.add_argument("command", choices=["seed"])
    parser.add_argument("users", type=int)
    asyncio.run(seed(parser.parse_args().users))
