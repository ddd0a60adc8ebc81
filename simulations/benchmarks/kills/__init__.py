"""Kills in every phase of a round, on a federation of real processes, and what they cost."""
