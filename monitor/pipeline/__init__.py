"""From a folder to a committed sighting: watch, intake, decode, classify, re-score."""
