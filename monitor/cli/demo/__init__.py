"""A rendered small world to run the real service on: `trapwatch demo`."""
