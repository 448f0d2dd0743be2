"""Alembic's entry: runs inside the transaction that `monitor.log.engine.migrate` has begun."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=False,
    transactional_ddl=False,  # the caller's transaction spans everything
)
context.run_migrations()
