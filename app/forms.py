"""The pages on which one logs in: plain forms that work without JavaScript. Every word from outside is escaped."""

from html import escape
from pathlib import Path

from medtl.review.users import LONGEST_NAME, LONGEST_PASSWORD, SHORTEST_PASSWORD

CSS = Path(__file__).with_name("login.css")
FORGED = "the form was too old, or came from another page; try again"
OUT_OF_REACH = "the review store does not answer; nobody can log in until it does"


def login(problem: str = "", name: str = "", *, root: str, form: str) -> str:
    """Name and password."""
    fields = _name(name) + _password("password", "Password", "current-password")
    return _page("Log in", _form("login", fields, "Log in", problem, root=root, form=form), root=root)


def logout(name: str, *, root: str, form: str) -> str:
    """One button."""
    said = f"<p>You are logged in as <b>{escape(name)}</b>.</p>"
    back = f'<p class="quiet"><a href="{escape(root)}/">Back to the scans</a></p>'
    return _page("Log out", said + _form("logout", "", "Log out", "", root=root, form=form) + back, root=root)


def setup(token: str, problem: str = "", *, root: str, form: str) -> str:
    """The first administrator."""
    fields = (
        f'<input type="hidden" name="token" value="{escape(token)}">{_name()}'
        + _password("password", f"Password, {SHORTEST_PASSWORD} characters or more", "new-password")
        + _password("again", "Password again", "new-password")
    )
    said = "<p>Nobody can log in yet. Make the first administrator.</p>"
    return _page(
        "Welcome", said + _form("setup", fields, "Make administrator", problem, root=root, form=form), root=root
    )


def dead_link(*, root: str, form: str) -> str:
    """The one-time link was used, is too old, is wrong, or was opened on another machine."""
    said = (
        '<p role="alert">This link does not open: it was used already, is older than 30 minutes, or was opened on '
        "another machine than the server.</p><p>On the server: <code>medtl users add NAME --role admin</code></p>"
        f'<p class="quiet"><a href="{escape(root)}/login">To the login</a></p>'
    )
    return _page("One-time link", said, root=root)


def out_of_reach(*, root: str) -> str:
    """Instead of the page while the store is gone."""
    said = (
        '<p role="alert"><b>The review store does not answer.</b> Nothing can be read or saved until it does; the '
        "server's log says why.</p>"
        f'<p class="quiet"><a href="{escape(root)}/">Try again</a></p>'
    )
    return _page("Out of reach", said, root=root)


def _name(known: str = "") -> str:
    return (
        f'<label>Name<input name="name" value="{escape(known)}" maxlength="{LONGEST_NAME}" autocomplete="username" '
        'autocapitalize="none" spellcheck="false" required autofocus></label>'
    )


def _password(name: str, label: str, kind: str) -> str:
    return (
        f'<label>{label}<input type="password" name="{name}" maxlength="{LONGEST_PASSWORD}" autocomplete="{kind}" '
        "required></label>"
    )


def _form(action: str, fields: str, button: str, problem: str, *, root: str, form: str) -> str:
    said = f'<p class="problem" role="alert">{escape(problem[:1].upper() + problem[1:])}.</p>' if problem else ""
    return (
        f'<form method="post" action="{escape(root)}/{action}">{said}{fields}'
        f'<input type="hidden" name="form" value="{escape(form)}"><button>{button}</button></form>'
    )


def _page(title: str, content: str, *, root: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>medtl review: '
        f'{title}</title><meta name="viewport" content="width=device-width"><meta name="referrer" '
        f'content="same-origin"><link rel="stylesheet" href="{escape(root)}/login.css"></head><body><main>'
        f"<h1>medtl review</h1><h2>{title}</h2>{content}</main><footer><b>Research use. Not a diagnostic viewer.</b>"
        "</footer></body></html>"
    )
