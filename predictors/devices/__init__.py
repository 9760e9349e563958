"""Milliseconds: measured here, read from a table, or learned from a few networks of a device."""
