"""`trapwatch web` and `trapwatch report`."""
