"""What keeps the log: backups, a journal of labels beside it, whether it is sound, and bringing it
back."""
