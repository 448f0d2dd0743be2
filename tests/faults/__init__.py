"""Drills: what trapwatch does when it is killed, starved or fed rubbish."""
