"""What people should look at: what teaches most, what is decided together, what looks wrong.

Decisions are pure functions of plain values (turns, alike, teaching, grouping); asking, groups and
doubts bring them together with the log. numpy is imported only where there are features.
"""
