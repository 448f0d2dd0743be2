"""What reviewing in a browser needs: acts that may be sent twice, leases, flags, species' keys."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = [
    "ALTER TABLE act ADD COLUMN request VARCHAR",
    "CREATE UNIQUE INDEX act_by_request ON act (request) WHERE request IS NOT NULL",
    "ALTER TABLE species ADD COLUMN group_name VARCHAR",
    "ALTER TABLE species ADD COLUMN hotkey VARCHAR",
    'CREATE INDEX act_by_person ON act ("by", kind)',
    """
CREATE TABLE lease (
    event_id INTEGER NOT NULL,
    "by" VARCHAR NOT NULL,
    until_at VARCHAR NOT NULL,
    PRIMARY KEY (event_id)
)
""",
    """
CREATE TABLE flag (
    media_id INTEGER NOT NULL,
    act_id INTEGER NOT NULL,
    PRIMARY KEY (media_id),
    FOREIGN KEY(media_id) REFERENCES media (id),
    FOREIGN KEY(act_id) REFERENCES act (id)
)
""",
    # INSERT OR REPLACE deletes without asking the delete trigger: a request that is taken counts
    # as a key that is taken
    "DROP TRIGGER act_is_never_replaced",
    """
CREATE TRIGGER act_is_never_replaced BEFORE INSERT ON act
WHEN EXISTS (SELECT 1 FROM act WHERE id = NEW.id OR request = NEW.request)
BEGIN SELECT RAISE(ABORT, 'labels are append-only'); END
""",
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
