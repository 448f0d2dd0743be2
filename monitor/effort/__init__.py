"""For how long a camera really watched: days, outages, and cameras that fall silent."""
