"""Crash tests: real processes, killed at random moments, and at every write."""
