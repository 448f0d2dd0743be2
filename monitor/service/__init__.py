"""What systemd starts: supervisor, workers, periodic tasks, run --once, training and pages as
processes."""
