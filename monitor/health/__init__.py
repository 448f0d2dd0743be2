"""How a station does: findings, status, doctor, metrics, alerts and their outbox."""
