"""python -m feature_store: list, describe, read, verify, rollback, delete, prune and copy what lies under a data root.

Exit status: 0 fine; 1 `verify` found problems, or another try may end otherwise (a lock is held, a disk full); 2
refused; 3 what lies there is damaged, too new or of different spaces. All but the first with one message that says what
to do; after 2 and 3 another try would end the same.
"""

import argparse
import os
import sys
from collections.abc import Callable

from feature_store import commands, known_stores
from feature_store.errors import DataDamaged, ManifestBroken, SchemaTooNew, SpaceMismatch, StoreError, may_pass
from feature_store.view import USER_EMBEDDINGS

MAY_PASS, REFUSED, FINAL = 1, 2, 3
FOUND_WRONG = (DataDamaged, ManifestBroken, SchemaTooNew, SpaceMismatch)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(prog="python -m feature_store", description=(__doc__ or "").split("\n\n")[0])
    known = main_parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], rooted: bool = True) -> argparse.ArgumentParser:
        sub = known.add_parser(name, help=(run.__doc__ or "").strip(), description=run.__doc__)
        root = os.environ.get("NOCTURNE_DATA_ROOT", "data")
        if rooted:
            sub.add_argument("--root", default=root, help="data root (default: $NOCTURNE_DATA_ROOT, else ./data)")
            settings = "the root's object store, as a configuration's section `storage` has it"
            sub.add_argument("--storage", metavar="JSON", help=f"{settings} (default: as the environment says)")
        sub.set_defaults(run=run)
        return sub

    sub = command("list", commands.list_tables)
    sub.add_argument("--json", action="store_true", help="for programs")
    sub = command("describe", commands.describe)
    sub.add_argument("table", help="as `list` shows it, e.g. feature_store/user_embeddings/model=my_model")
    sub.add_argument("value", nargs="?", help="partition, e.g. 2026-01-05 (default: the last)")
    sub.add_argument("--json", action="store_true", help="the whole manifest, as it lies on the disk")
    sub = command("read", commands.read)
    sub.add_argument("--view", default=USER_EMBEDDINGS, help=f"default {USER_EMBEDDINGS}")
    sub.add_argument("--model", required=True, help="as `list` shows it, e.g. my_model")
    sub.add_argument("--dt", help="this very date (default: the last)")
    sub.add_argument("--as-of", help="the newest known at this date or time (UTC)")
    sub.add_argument("--max-age-days", type=float, help="refuse older ones (with --as-of)")
    sub.add_argument("--user-id", action="append", help="only this user (repeat for more)")
    sub.add_argument("--columns", help="comma-separated")
    sub.add_argument("--output", help="FILE.parquet or FILE.csv")
    sub.add_argument("--head", type=int, default=10, help="rows to print without --output (default 10)")
    sub = command("verify", commands.verify)
    sub.add_argument("table", nargs="?", help="only this table or ledger, as `list` shows it")
    sub.add_argument("value", nargs="?", help="only this partition, e.g. 2026-01-05")
    for name, run in (("rollback", commands.rollback), ("delete", commands.delete)):
        sub = command(name, run)
        sub.add_argument("table", help="as `list` shows it")
        sub.add_argument("value", help="partition, e.g. 2026-01-05")
        waiting = "for a writer that holds the partition (default 60)"
        sub.add_argument("--wait-seconds", type=float, default=60.0, help=waiting)
    sub = command("prune", commands.prune_tables)
    sub.add_argument("--retention", help="JSON object: table → days kept")
    sub.add_argument("--allow-missing", action="store_true", help="a retention of no table is none (else: refused)")
    sub.add_argument("--table", help="one table (or a folder of tables) ...")
    by_default = f"with --dry-run alone: of every table, {commands.DRY_RUN_DAYS} by default"
    sub.add_argument("--days", type=int, help=f"... and its days ({by_default})")
    sub.add_argument("--keep", help="comma-separated dates that are needed; those of the last label window are known")
    sub.add_argument("--as-of", help="count days back from this date (default: each table's newest)")
    sub.add_argument("--dry-run", action="store_true")
    sub = command("copy", commands.copy, rooted=False)
    sub.add_argument("--from", dest="source", metavar="ROOT", required=True, help="a path, or s3://bucket/prefix")
    sub.add_argument("--to", dest="target", metavar="ROOT", required=True, help="the same; what is there stays")
    for end in ("from", "to"):
        sub.add_argument(f"--{end}-endpoint", metavar="URL", help="of its server (default: $AWS_ENDPOINT_URL)")
        sub.add_argument(f"--{end}-profile", metavar="NAME", help="of its credentials (default: $AWS_PROFILE)")
    return main_parser


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        if getattr(options, "storage", None):
            known_stores.know(options.root, commands.storage_of(options.storage))
        status = options.run(options)
        sys.stdout.flush()
        return status
    except StoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        if may_pass(error):
            return MAY_PASS
        return FINAL if isinstance(error, FOUND_WRONG) else REFUSED
    except BrokenPipeError:  # `| head` has seen enough; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
