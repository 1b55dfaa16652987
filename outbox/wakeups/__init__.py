"""How a process that waits learns that there is work: a datagram beside a SQLite file, NOTIFY on PostgreSQL."""
