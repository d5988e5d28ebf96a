"""The pure heart: definitions, operations, events, commands, execution and rollback. No clock, no chance, no I/O."""
