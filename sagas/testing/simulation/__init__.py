"""A fleet of coordinators in one thread, on virtual time, over a store that is simulated."""
