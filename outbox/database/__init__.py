"""Where SQLite and PostgreSQL differ: engines, drivers, files, locks, and the migrations that make the tables."""
