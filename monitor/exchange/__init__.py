"""Labels and species lists from files."""
