"""Tests of the drawings of one saga."""
