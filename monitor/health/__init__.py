"""How well a station is: what was found of each part, what to do about it, and one word for all."""
