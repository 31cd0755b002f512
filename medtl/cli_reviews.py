"""`medtl serve`, `medtl reviews ...`, `medtl users ...`: the review page, verdicts, and who may give them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import medtl
from medtl.cli_lists import BundleFolder
from medtl.errors import ReviewError
from medtl.progress import print_table, say

reviews = typer.Typer(help="Readers' verdicts.", no_args_is_help=True, rich_markup_mode=None)
users = typer.Typer(help="Who may use the review page.", no_args_is_help=True, rich_markup_mode=None)

Reviews = Annotated[
    str, typer.Option(help="What keeps the verdicts: a file, or postgresql+pg8000://USER@HOST/DATABASE.")
]
ROLES = "reader, lead (adjudicates, sees all verdicts) or admin (a lead who also reads the metrics)."
Name = Annotated[str, typer.Argument(help="The user's name.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin, one line.")]


def serve(
    bundle: BundleFolder,
    scores: Annotated[Path | None, typer.Option(help="The file that medtl score wrote: its scans are cases.")] = None,
    watch: Annotated[Path | None, typer.Option(help="A folder: scans that arrive in it become cases.")] = None,
    readings: Annotated[int, typer.Option(min=1, max=9, help="How many readers have to read each case.")] = 1,
    verdict_first: Annotated[
        bool, typer.Option("--verdict-first", help="Hide the detector's answer until the reader has spoken.")
    ] = False,
    reviews: Reviews = "review.db",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 7860,
    root_path: Annotated[str, typer.Option(help="The path under which a reverse proxy shows it: /medtl.")] = "",
    trusted_proxy: Annotated[str, typer.Option(help="The reverse proxy's address, such as 127.0.0.1.")] = "",
) -> None:
    """Open the review page for a bundle."""
    medtl.serve(
        bundle, scores=scores, watch=watch, readings=readings, verdict_first=verdict_first, reviews=reviews, host=host,
        port=port, root_path=root_path, trusted_proxy=trusted_proxy,
    )  # fmt: skip


@reviews.command("import")
def import_(
    scores: Annotated[Path, typer.Argument(help="The file that medtl score wrote.")],
    readings: Annotated[int, typer.Option(min=1, max=9, help="How many readers have to read each case.")] = 1,
    reviews: Reviews = "review.db",
) -> None:
    """Fill the worklist from a scores file; made again, it adds what is new."""
    medtl.import_scores(scores, reviews=reviews, readings=readings)


@reviews.command()
def export(
    out: Annotated[Path, typer.Option(help="The labels file to write.")],
    reviews: Reviews = "review.db",
) -> None:
    """Write the verdicts as labels that finetune reads."""
    medtl.export_labels(reviews, out=out)


@reviews.command("verdicts")
def verdicts_(
    out: Annotated[Path, typer.Option(help="The file to write: a JSON object a line.")],
    reviews: Reviews = "review.db",
) -> None:
    """Write every verdict that stands, with its reader, marked region and note."""
    medtl.export_verdicts(reviews, out=out)


@reviews.command()
def verify(
    head: Annotated[str | None, typer.Option(help="COUNT:HASH that an earlier verify printed.")] = None,
    reviews: Reviews = "review.db",
) -> None:
    """Find verdicts that were changed, deleted, inserted or moved; prints the head of the chain to write down."""
    print(medtl.verify_reviews(reviews, head=head))


@reviews.command()
def backup(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    reviews: Reviews = "review.db",
) -> None:
    """Copy the store while readers work."""
    medtl.backup_reviews(reviews, out=out)


@reviews.command()
def report(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    reviews: Reviews = "review.db",
) -> None:
    """Write a page on agreement, drift of the scores, readers' kappa, time a case, and what to read next."""
    medtl.report_reviews(reviews, out=out)


@users.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help=ROLES)],
    password_stdin: FromStdin = False,
    reviews: Reviews = "review.db",
) -> None:
    """Add a user; asks for the password twice."""
    from medtl.review import users as table
    from medtl.review.store import ReviewStore

    password = _password(password_stdin)
    table.add(ReviewStore(reviews), name, password, role=role)
    say(f"{name} may log in as {role}")


@users.command("role")
def role_(name: Name, role: Annotated[str, typer.Argument(help=ROLES)], reviews: Reviews = "review.db") -> None:
    """Give a user another role; he logs in anew, and his verdicts stay."""
    from medtl.review import users as table
    from medtl.review.store import open_existing

    table.set_role(open_existing(reviews), name, role)
    say(f"{name} has the role {role} now")


@users.command("list")
def list_(reviews: Reviews = "review.db") -> None:
    """List the users."""
    from medtl.review import users as table
    from medtl.review.store import open_existing

    found = table.listing(open_existing(reviews))
    rows = [(user.name, user.role, "yes" if user.active else "disabled", user.created_at[:10]) for user in found]
    print_table(("name", "role", "may log in", "since"), rows)


@users.command()
def disable(name: Name, reviews: Reviews = "review.db") -> None:
    """Let a user in no more, at once; his verdicts stay."""
    _set_active(reviews, name, False)


@users.command()
def enable(name: Name, reviews: Reviews = "review.db") -> None:
    """Let a disabled user in again."""
    _set_active(reviews, name, True)


@users.command()
def reset(name: Name, password_stdin: FromStdin = False, reviews: Reviews = "review.db") -> None:
    """Give a user a new password; ends his sessions and a lock after wrong passwords."""
    from medtl.review import users as table
    from medtl.review.store import open_existing

    store = open_existing(reviews)
    table.reset_password(store, name, _password(password_stdin))
    say(f"{name} has a new password")


def _set_active(reviews: str, name: str, active: bool) -> None:
    from medtl.review import users as table
    from medtl.review.store import open_existing

    table.set_active(open_existing(reviews), name, active)
    say(f"{name} may {'' if active else 'no longer '}log in")


def _password(from_stdin: bool) -> str:
    """The password, which never stands on the command line, where other users of the machine see it."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ReviewError("nobody is there to be asked for the password; give it with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
