"""The static report: one HTML file that a ranger can mail."""
