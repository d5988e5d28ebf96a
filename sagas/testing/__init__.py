"""Tests that find out whether a saga recovers, and whether a store, transport or queue keeps its promises."""
