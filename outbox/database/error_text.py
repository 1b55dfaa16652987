"""What errors of a database say: without the lines that quote the row, and without hashes."""

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from outbox.redact import redact


def hide_rows(engine: Engine) -> None:
    """Leaves of what the database says of an error `plain_text`, in the driver's exception and in SQLAlchemy's."""

    @event.listens_for(engine, "handle_error")
    def shorten(context: ExceptionContext) -> None:
        told, shown = context.original_exception, context.sqlalchemy_exception
        said, plain = str(told), plain_text(told)
        if plain != said:
            if shown is not None:
                shown.args = (str(shown.args[0]).replace(said, plain), *shown.args[1:])
            told.args = (plain,)


def plain_text(told: BaseException) -> str:
    """Of PostgreSQL's words the first line: the next ones quote the row. A trigger may quote it in any."""
    return redact(getattr(getattr(told, "diag", None), "message_primary", None) or str(told))
