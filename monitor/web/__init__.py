"""Pages and JSON API of one station."""
