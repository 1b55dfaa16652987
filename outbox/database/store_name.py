"""Which store an error is about: an engine can be given a name, which the errors of its transactions carry."""

from sqlalchemy import Engine

_NAME = "outbox_store"


def name_store(engine: Engine, name: str) -> Engine:
    """The same engine. ``name`` is for people: what the store is for, and its URL without the password."""
    engine.update_execution_options(**{_NAME: name})
    return engine


def name_of(engine: Engine) -> str | None:
    name: str | None = engine.get_execution_options().get(_NAME)
    return name


def note_store(error: Exception, engine: Engine) -> None:
    """The first to note it is right: with one transaction inside another, that is the inner one."""
    name = name_of(engine)
    if name is not None and store_of(error) is None:
        setattr(error, _NAME, name)


def store_of(error: Exception) -> str | None:
    return getattr(error, _NAME, None)
