"""The tables of the review store, as schema 4 has them; `migrations/` leads there from earlier ones.

Moments are UTC in ISO 8601 with milliseconds, a text that sorts as time does. Only `verdicts` is evidence: its rows are
chained (`chain.py`) and never change. All other tables say where the work stands.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

USERS = Table(
    "users",
    METADATA,
    Column("name", String, primary_key=True),
    Column("password_hash", String, nullable=False),
    Column("role", String, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", String, nullable=False),
)

LOGIN_FAILURES = Table(
    "login_failures",
    METADATA,
    # Also of names that no user has, so that a lockout does not tell which names exist: no foreign key.
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("failed_at", String, nullable=False),
    Index("login_failures_name", "name", "failed_at"),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("token_hash", String, primary_key=True),
    Column("user_name", String, ForeignKey("users.name"), nullable=False, index=True),
    Column("created_at", String, nullable=False),
    Column("last_seen_at", String, nullable=False),
    Column("expires_at", String, nullable=False),
)

CASES = Table(
    "cases",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("scan_id", String, nullable=False, unique=True),
    Column("sha256", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("patient_id", String, nullable=False),
    Column("facts", Text, nullable=False),
    Column("received_at", String, nullable=False),
    Column("bundle_id", String, nullable=False),
    Column("urgency", Float, nullable=False),
    Column("uncertainty", Float, nullable=False),
    Column("nearest_scan_id", String, nullable=False, server_default=""),
    Column("distance", Float),
    Column("readings_wanted", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("claimed_by", String),
    Column("claimed_until", String),
    Index("cases_status_urgency", "status", "urgency", "id"),
    Index("cases_urgency", "urgency", "id"),
    Index("cases_uncertainty", "uncertainty", "id"),
    Index("cases_received_at", "received_at", "id"),
    Index("cases_patient_id", "patient_id"),
)

SCORES = Table(
    "scores",
    METADATA,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True),
    Column("bundle_id", String, primary_key=True),
    Column("finding", String, primary_key=True),
    Column("place", Integer, nullable=False),
    Column("probability", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("decision", String, nullable=False),
    Column("uncertainty", Float, nullable=False),
    Index("scores_finding_decision", "finding", "decision", "case_id"),
)

READINGS = Table(
    "readings",
    METADATA,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True),
    Column("reader", String, primary_key=True),
    Column("finished_at", String, nullable=False),
    Index("readings_reader", "reader", "case_id"),
)

VERDICTS = Table(
    "verdicts",
    METADATA,
    # Numbered by the chain, one after the other, never by the database.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False, index=True),
    Column("scan_id", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("bundle_id", String, nullable=False),
    Column("finding", String, nullable=False),
    Column("probability", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("decision", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("relabel", Integer),
    Column("region", Text),
    Column("note", Text, nullable=False),
    Column("bad_image", Boolean, nullable=False),
    Column("verdict_first", Boolean, nullable=False),
    Column("adjudicates", Boolean, nullable=False),
    Column("seconds", Float),
    Column("reader", String, nullable=False),
    Column("role", String, nullable=False),
    Column("supersedes", Integer, ForeignKey("verdicts.id")),
    Column("token", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("prev_hash", String, nullable=False),
    Column("hash", String, nullable=False),
    UniqueConstraint("token", "finding", name="verdicts_token"),
    Index("verdicts_created_at", "created_at"),
)

HEAD = Table(
    "head",
    METADATA,
    # One row: how many verdicts there are, and the hash of the last. Locked while one is appended.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("hash", String, nullable=False),
)
