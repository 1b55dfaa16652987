"""The triggers that note a deleted row that was used or closed, by name and database."""

from gateway_store.migrations.mirror_schema import CLOSED, TABLE

_ALL_CLOSED = f"SELECT id, status, use_count FROM {TABLE} WHERE status <> 'active' OR use_count > 0"  # noqa: S608
_REMEMBER = f"""
    INSERT INTO {CLOSED} (id, status, use_count) {{rows}}
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, use_count = excluded.use_count
"""
SQLITE = {
    f"{TABLE}_remember_closed": """
    CREATE TRIGGER ingress_invites_remember_closed AFTER DELETE ON ingress_invites
    WHEN old.status <> 'active' OR old.use_count > 0
    BEGIN
        INSERT OR REPLACE INTO ingress_invites_closed (id, status, use_count)
        VALUES (old.id, old.status, old.use_count);
    END
"""
}
# TRUNCATE, also one that cascades from contacts, deletes rows and fires no trigger of DELETE.
FUNCTION = f"""
    CREATE FUNCTION {TABLE}_remember_closed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            {_REMEMBER.format(rows=_ALL_CLOSED)};
        ELSE
            {_REMEMBER.format(rows="VALUES (old.id, old.status, old.use_count)")};
        END IF;
        RETURN NULL;
    END $$
"""
POSTGRESQL = {
    f"{TABLE}_remember_closed": f"""
    CREATE TRIGGER {TABLE}_remember_closed AFTER DELETE ON {TABLE}
    FOR EACH ROW WHEN (old.status <> 'active' OR old.use_count > 0)
    EXECUTE FUNCTION {TABLE}_remember_closed()
""",
    f"{TABLE}_remember_closed_all": f"""
    CREATE TRIGGER {TABLE}_remember_closed_all BEFORE TRUNCATE ON {TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_remember_closed()
""",
}
