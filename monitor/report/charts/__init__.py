"""Charts as ecologists draw them: numbers from the log, drawn as SVG or PNG, or told as CSV."""
