"""What keeps the log: backups, the journal of labels beside it, integrity, restoring it."""
