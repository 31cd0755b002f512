"""From an earlier schema to this one, by Alembic's revisions in `migrations/versions/`, in the caller's transaction."""

from pathlib import Path

from sqlalchemy import Connection, inspect

from medtl.errors import ReviewError

HEAD_REVISION = "4"
_KNOWN = ("1", "2", "3", HEAD_REVISION)
FOLDER = Path(__file__).with_name("migrations")


def found_revision(connection: Connection, name: str) -> str | None:
    """The schema that a database has; None where it is empty.

    Raises:
        ReviewError: it is of a later schema, or of another program; the message says what to do.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        revision = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    elif connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA user_version").scalar_one():
        # Schema 1 was made before there were migrations.
        revision = str(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    elif tables:
        raise ReviewError(f"{name}: is the database of another program; choose another one with --reviews")
    else:
        return None
    if revision not in _KNOWN:
        raise ReviewError(
            f"{name}: is a review store of schema {revision}, this medtl reads schema {HEAD_REVISION}; "
            "use the medtl that wrote it, or choose another one with --reviews"
        )
    return revision


def upgrade(connection: Connection, revision: str | None) -> None:
    """Run the revisions that come after `revision`."""
    # Imported here: a store of this schema, which most are, does not need it.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(FOLDER))
    with EnvironmentContext(Config(), script, fn=lambda _, __: script._upgrade_revs("head", revision or "base")) as run:
        run.configure(connection=connection, transactional_ddl=False)
        if revision is not None and not inspect(connection).has_table("alembic_version"):
            run.get_context().stamp(script, revision)
        run.run_migrations()
