"""`shopstream migrate`: make the database fit the metric catalogue, and its login roles."""

from __future__ import annotations

import argparse

from database import roles
from database.migrate import migrate
from flows.runtime.settings import settings_or_exit


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--login",
        action="append",
        default=[],
        metavar="NAME=GROUP:FILE",
        help="also make a login role, a member of the group reader or writer, with the password in"
        " the file; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Migrate, then make the login roles; wrong logins are refused before anything is done."""
    settings = settings_or_exit()
    logins = [roles.Login.parse(text) for text in args.login]
    migrated = migrate(settings.database_url, settings.startup_seconds)
    print(
        f"database is up to date (edition {migrated.edition});"
        f" new: {', '.join(migrated.applied) or 'nothing'}"
    )
    roles.ensure(settings.database_url, logins, settings.startup_seconds)
    for login in logins:
        print(f"login {login.name} is a member of {login.group}")
    return 0
