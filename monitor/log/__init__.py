"""The species log: the only room that speaks SQL."""
