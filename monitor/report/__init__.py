"""Charts, effort, and the report as one file."""
