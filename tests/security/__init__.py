"""Attacks, and what stops each: README.md has the table."""
