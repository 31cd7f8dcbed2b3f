"""Statements on the table of attempts. Each is sent by itself, and costs no disk's time."""

from typing import Final

from sqlalchemy import text

from api.core.direct import Statement

# Takes an attempt out of the first bucket, unless it or one of the others is empty; whoever is known needs only the
# first two. Of any number at once, as many take one as there are: they wait for each other at its row.
TAKE: Final = Statement(
    text("""
    WITH known AS (SELECT FROM throttles WHERE key = :known AND until > now()),
    empty AS (
        SELECT max(throttles.until - room) AS until
        FROM unnest(CAST(:keys AS bytea[]), CAST(:rooms AS interval[])) WITH ORDINALITY AS buckets (key, room, place)
        JOIN throttles USING (key)
        WHERE throttles.until > now() + room AND (place < 3 OR NOT EXISTS (SELECT FROM known))
    ),
    taken AS (
        INSERT INTO throttles (key, until)
        SELECT (CAST(:keys AS bytea[]))[1], now() + :every WHERE (SELECT until FROM empty) IS NULL
        ON CONFLICT (key) DO UPDATE SET until = greatest(throttles.until, now()) + :every
        WHERE throttles.until <= now() + (CAST(:rooms AS interval[]))[1]
        RETURNING key
    )
    SELECT EXISTS (SELECT FROM taken) AS is_taken, (SELECT until FROM empty) - now() AS wait
    """)
)
# Takes one out of each, in the order given: all who do so have the same order, and none waits for a later one.
CHARGE: Final = Statement(
    text("""
    INSERT INTO throttles (key, until)
    SELECT key, now() + every
    FROM unnest(CAST(:keys AS bytea[]), CAST(:every AS interval[])) WITH ORDINALITY AS buckets (key, every, place)
    ORDER BY place
    ON CONFLICT (key) DO UPDATE SET until = greatest(throttles.until, now()) + (excluded.until - now())
    """)
)
# Fills a bucket, and notes that whoever has it is known from now on; that, once a day.
FILL: Final = Statement(
    text("""
    WITH filled AS (DELETE FROM throttles WHERE key = :key)
    INSERT INTO throttles (key, until) VALUES (:known, now() + :kept)
    ON CONFLICT (key) DO UPDATE SET until = excluded.until
    WHERE throttles.until < excluded.until - interval '1 day'
    """)
)
# Removes some rows that say nothing any more, more than a wrong guess makes; waits for nobody.
CLEAN: Final = Statement(
    text("""
    DELETE FROM throttles WHERE key IN (
        SELECT key FROM throttles WHERE until < now() ORDER BY until LIMIT 10 FOR UPDATE SKIP LOCKED
    )
    """)
)
