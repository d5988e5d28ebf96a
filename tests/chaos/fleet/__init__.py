"""Many coordinators on one PostgreSQL, while processes, connections and the server itself fail at random.

`driver` starts the processes (`member`) and lets things fail. The sagas of `trade` act on a business of its own
database (`world`), which knows its every effect and what led to it. Each process notes what it writes (`witness`). At
the end, `audit` holds the journals, the business, and what the processes said against each other.
"""
