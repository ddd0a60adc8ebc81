"""Attacks on a federation, as its coordinator or whoever gets the release could play them.

Pure functions: an attack is given what the attacker sees, and gives what it makes of it. What is seen comes
from the functions that run in a hospital, not from copies of them. `medgan-sim bench attacks` measures.
"""
