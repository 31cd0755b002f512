"""Schema 3: a case knows which labeled scan of its bundle is most alike."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add the column; of earlier cases it is not known."""
    op.add_column("cases", sa.Column("nearest_scan_id", sa.String, nullable=False, server_default=""))
