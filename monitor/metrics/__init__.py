"""The station in figures, for Prometheus: what `/metrics` answers. Names: docs/monitoring.md."""
