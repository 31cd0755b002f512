"""Schema 2: cases with scores, users, sessions, and verdicts in a hash chain.

Every verdict of schema 1 keeps its number, moment and words; the name of its file becomes its case's path. The chain
vouches for them from this migration on, not before.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Boolean, Column, Float, Integer, String, Text

from medtl.review.chain import GENESIS, row_hash

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the tables, move the verdicts, and forbid to change them."""
    op.rename_table("verdicts", "verdicts_1")
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER INDEX verdicts_pkey RENAME TO verdicts_1_pkey")
    _make_people()
    _make_cases()
    _make_verdicts()
    _move()
    op.drop_table("verdicts_1")
    _forbid_changes()


def _make_people() -> None:
    op.create_table(
        "users",
        Column("name", String, primary_key=True),
        Column("password_hash", String, nullable=False),
        Column("role", String, nullable=False),
        Column("active", Boolean, nullable=False),
        Column("created_at", String, nullable=False),
    )
    op.create_table(
        "login_failures",
        Column("id", Integer, primary_key=True),
        Column("name", String, nullable=False),
        Column("failed_at", String, nullable=False),
    )
    op.create_index("login_failures_name", "login_failures", ["name", "failed_at"])
    op.create_table(
        "sessions",
        Column("token_hash", String, primary_key=True),
        Column("user_name", String, sa.ForeignKey("users.name"), nullable=False),
        Column("created_at", String, nullable=False),
        Column("last_seen_at", String, nullable=False),
        Column("expires_at", String, nullable=False),
    )
    op.create_index("ix_sessions_user_name", "sessions", ["user_name"])


def _make_cases() -> None:
    op.create_table(
        "cases",
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
        Column("readings_wanted", Integer, nullable=False),
        Column("status", String, nullable=False),
        Column("claimed_by", String),
        Column("claimed_until", String),
    )
    op.create_index("cases_status_urgency", "cases", ["status", "urgency", "id"])
    op.create_index("cases_urgency", "cases", ["urgency", "id"])
    op.create_index("cases_uncertainty", "cases", ["uncertainty", "id"])
    op.create_index("cases_received_at", "cases", ["received_at", "id"])
    op.create_index("cases_patient_id", "cases", ["patient_id"])
    op.create_table(
        "scores",
        Column("case_id", Integer, sa.ForeignKey("cases.id"), primary_key=True),
        Column("bundle_id", String, primary_key=True),
        Column("finding", String, primary_key=True),
        Column("place", Integer, nullable=False),
        Column("probability", Float, nullable=False),
        Column("threshold", Float, nullable=False),
        Column("decision", String, nullable=False),
        Column("uncertainty", Float, nullable=False),
    )
    op.create_index("scores_finding_decision", "scores", ["finding", "decision", "case_id"])
    op.create_table(
        "readings",
        Column("case_id", Integer, sa.ForeignKey("cases.id"), primary_key=True),
        Column("reader", String, primary_key=True),
        Column("finished_at", String, nullable=False),
    )
    op.create_index("readings_reader", "readings", ["reader", "case_id"])


def _make_verdicts() -> None:
    op.create_table(
        "verdicts",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("case_id", Integer, sa.ForeignKey("cases.id"), nullable=False),
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
        Column("supersedes", Integer, sa.ForeignKey("verdicts.id")),
        Column("token", String, nullable=False),
        Column("created_at", String, nullable=False),
        Column("prev_hash", String, nullable=False),
        Column("hash", String, nullable=False),
        sa.UniqueConstraint("token", "finding", name="verdicts_token"),
    )
    op.create_index("ix_verdicts_case_id", "verdicts", ["case_id"])
    op.create_index("verdicts_created_at", "verdicts", ["created_at"])
    op.create_table(
        "head",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("count", Integer, nullable=False),
        Column("hash", String, nullable=False),
    )


def _move() -> None:
    connection = op.get_bind()
    tables = sa.MetaData()
    tables.reflect(connection, only=("verdicts_1", "verdicts", "cases", "scores", "readings", "head"))
    old = connection.execute(sa.select(tables.tables["verdicts_1"]).order_by(sa.text("id"))).mappings().all()
    cases: dict[str, dict[str, Any]] = {}
    scores: dict[tuple[int, str, str], dict[str, Any]] = {}
    readings: dict[tuple[int, str], dict[str, Any]] = {}
    standing: dict[tuple[int, str, str], int] = {}
    rows: list[dict[str, Any]] = []
    previous = GENESIS
    for row in old:
        case = cases.setdefault(row["scan_id"], _case(len(cases) + 1, row))
        case["bundle_id"] = row["bundle_id"]
        common = {name: row[name] for name in ("bundle_id", "finding", "probability", "threshold", "decision")}
        key = (case["id"], row["bundle_id"], row["finding"])
        place = scores[key]["place"] if key in scores else sum(k[:2] == key[:2] for k in scores)
        scores[key] = common | {"case_id": case["id"], "place": place, "uncertainty": 0.0}
        readings[case["id"], row["reader"]] = {
            "case_id": case["id"], "reader": row["reader"], "finished_at": row["created_at"],
        }  # fmt: skip
        new = common | {
            "id": row["id"], "case_id": case["id"], "scan_id": row["scan_id"], "sha256": row["sha256"],
            "verdict": row["verdict"], "relabel": None, "region": None, "note": row["note"], "bad_image": False,
            "verdict_first": False, "adjudicates": False, "seconds": None, "reader": row["reader"], "role": "reader",
            "supersedes": standing.get((case["id"], row["reader"], row["finding"])), "token": f"schema-1-{row['id']}",
            "created_at": row["created_at"], "prev_hash": previous,
        }  # fmt: skip
        standing[case["id"], row["reader"], row["finding"]] = row["id"]
        previous = new["hash"] = row_hash(new)
        rows.append(new)
    for name, content in (("cases", cases), ("scores", scores), ("readings", readings)):
        if content:
            connection.execute(tables.tables[name].insert(), list(content.values()))
    if rows:
        connection.execute(tables.tables["verdicts"].insert(), rows)
    connection.execute(tables.tables["head"].insert(), [{"id": 1, "count": len(rows), "hash": previous}])
    if connection.dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('cases', 'id'), 1 + (SELECT count(*) FROM cases), false)")


def _case(number: int, row: Any) -> dict[str, Any]:
    return {
        "id": number, "scan_id": row["scan_id"], "sha256": row["sha256"], "path": row["source_name"],
        "patient_id": "", "facts": "{}", "received_at": row["created_at"], "urgency": 0.0, "uncertainty": 0.0,
        "readings_wanted": 1, "status": "done", "claimed_by": None, "claimed_until": None,
    }  # fmt: skip


def _forbid_changes() -> None:
    if op.get_context().dialect.name == "sqlite":
        for action in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER verdicts_no_{action} BEFORE {action.upper()} ON verdicts "
                "BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END"
            )
        op.execute("PRAGMA user_version = 2")  # what medtl 0.1 looks at, and then refuses
        return
    op.execute(
        "CREATE FUNCTION verdicts_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'verdicts are append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER verdicts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON verdicts "
        "FOR EACH STATEMENT EXECUTE FUNCTION verdicts_append_only()"
    )
