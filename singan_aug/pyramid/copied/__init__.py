"""Copied scales: patches of the source."""
