"""Schema 4: a case knows how far it is from the labeled scans of its bundle."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add the column; of earlier cases it is not known."""
    op.add_column("cases", sa.Column("distance", sa.Float))
