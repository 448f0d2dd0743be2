"""Review in the browser, dashboard, JSON API: FastAPI over the species log."""
