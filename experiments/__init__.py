"""The textbook's questions, each a script that draws its figure and checks its claims: `python -m experiments`."""
