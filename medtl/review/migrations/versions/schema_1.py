"""Schema 1: verdicts alone, as medtl 0.1 kept them."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the table; its triggers come with schema 2, which replaces it."""
    texts = ("scan_id", "sha256", "source_name", "finding", "decision", "verdict", "note", "reader", "bundle_id")
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.String, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
    )
