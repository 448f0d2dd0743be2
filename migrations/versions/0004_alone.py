"""Alerts and their outbox, times that were not watched, files that ended the process."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = [
    """
CREATE TABLE alert (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    "key" VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    body VARCHAR NOT NULL,
    media_id INTEGER,
    FOREIGN KEY(media_id) REFERENCES media (id)
)
""",
    'CREATE INDEX alert_by_key ON alert (kind, "key", at)',
    """
CREATE TABLE delivery (
    alert_id INTEGER NOT NULL,
    channel VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    next_try_at VARCHAR NOT NULL,
    sent_at VARCHAR,
    problem VARCHAR,
    PRIMARY KEY (alert_id, channel),
    FOREIGN KEY(alert_id) REFERENCES alert (id)
) WITHOUT ROWID
""",
    "CREATE INDEX delivery_waiting ON delivery (next_try_at) WHERE state = 'waiting'",
    """
CREATE TABLE outage (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    deployment_id INTEGER NOT NULL,
    start_at VARCHAR NOT NULL,
    end_at VARCHAR,
    state VARCHAR NOT NULL,
    reason VARCHAR,
    note VARCHAR,
    "by" VARCHAR,
    said_at VARCHAR NOT NULL,
    FOREIGN KEY(deployment_id) REFERENCES deployment (id)
)
""",
    "CREATE INDEX outage_by_deployment ON outage (deployment_id, start_at)",
    """
CREATE TABLE poison_file (
    path_bytes BLOB NOT NULL,
    size BIGINT NOT NULL,
    mtime_ns BIGINT NOT NULL,
    deaths INTEGER NOT NULL,
    last_at VARCHAR NOT NULL,
    PRIMARY KEY (path_bytes)
) WITHOUT ROWID
""",
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
