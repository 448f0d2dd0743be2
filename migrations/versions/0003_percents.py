"""The least sure predictions are found by whole percents, and by media where those are the same.

In exact order of probability, a new model's word on each media lies on another page of the index,
which was three quarters of what re-scoring wrote. A CAST gives the same number in every release of
SQLite, as an index must have it; what round() gives has changed.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    "DROP INDEX prediction_by_probability",
    """
CREATE INDEX prediction_by_probability ON prediction (CAST(probability * 100 AS INTEGER), media_id, probability) WHERE current = 1
""",
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
