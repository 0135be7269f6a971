"""The command line. Exit codes: 0 published; 1 a gate said FAIL or NO-VERDICT; 2 bad configuration or input; 3 anything else."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from pathlib import Path

PUBLISHED, NOT_PUBLISHED, BAD_INPUT, BROKEN = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a terminal that does not know a letter
    parsed = _parser().parse_args(arguments)
    from generators.data import DataError

    try:
        return parsed.command(parsed)
    except DataError as problem:
        print(f"likeness: {problem}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            from pipelines.publish import trouble

            place = problem.filename or Path(getattr(parsed, "config", ".")).absolute().parent
            print(f"likeness: {trouble(problem, str(place))}", file=sys.stderr)
            return BAD_INPUT
        return _broken(problem)
    except KeyboardInterrupt:
        print("likeness: interrupted; the same command goes on after the last step that was done", file=sys.stderr)
        return BROKEN
    except Exception as problem:
        return _broken(problem)


def _broken(problem: BaseException) -> int:
    """Something of ours is wrong. What a library says may quote the data, so only our own words and the place are shown."""
    from pipelines.work import said

    if os.environ.get("LIKENESS_DEBUG"):
        raise problem
    print(f"likeness: {said(problem)}; LIKENESS_DEBUG=1 shows all of it, which may hold values of the data", file=sys.stderr)
    return BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="likeness", description="Synthetic data, published only when measurements say so.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    run = command("run", _run, "Run a pipeline: read, fit, sample, judge, and publish if every gate passes.")
    run.add_argument("name", help="which entry of flows.yaml")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change the entry, e.g. generator.gmm.components=50")
    run.add_argument("--dry-run", action="store_true", help="only say what would be done")
    run.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout, once there is a verdict")
    compare = command("compare", _compare, "Fit several families on one split, judge each, and say which is best. Nothing is published.")
    compare.add_argument("name", help="which entry of flows.yaml")
    compare.add_argument("--generators", default="all", metavar="FAMILY,FAMILY", help="which families; all of them by default")
    compare.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change the entry")
    compare.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout, once there is a verdict")
    audit = command("audit", _audit, "Fit shadow models with and without some people, and say who can be told from what they make. Takes as many fits.")
    audit.add_argument("name", help="which entry of flows.yaml")
    audit.add_argument("--shadows", type=_rows, metavar="N", help="how many models; 32 unless said")
    audit.add_argument("--targets", type=_rows, metavar="N", help="how many people are looked for; 60 unless said")
    audit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change the entry")
    audit.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")
    serve = command("serve", _serve, "Run every entry that has a schedule at its times, until stopped.")
    listing = command("list", _list, "List the entries of flows.yaml.")
    ledger = command("ledger", _ledger, "Say what was learned, drawn and released of each population, in all runs so far.")
    ledger.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")
    init = command("init", _init, "Look at a table and add an entry for it to flows.yaml, for a person to correct.")
    init.add_argument("source", help="a CSV or Parquet file, glob, folder or URL; a .npz or a folder of image files")
    init.add_argument("--name", help="name of the entry; by default after the file")
    init.add_argument("--subject", metavar="COLUMN", help="whose row it is, where somebody has several")
    init.add_argument("--time", metavar="COLUMN", help="when a row is: the source is series, of --subject")
    init.add_argument("--print", action="store_true", help="print the entry, write nothing")
    sample = command("sample", _sample, "Draw rows from a saved model. Nothing judges them: what is published comes from `run`.")
    sample.add_argument("model", type=Path, help="a model folder, runs/NAME/VERSION/model")
    sample.add_argument("--rows", type=_rows, required=True)
    sample.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    sample.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="every row holds this value")
    sample.add_argument("--balance", metavar="COLUMN", help="every class of this column comes out equally often")
    sample.add_argument("--seed", type=int)
    for sub in (run, compare, audit, serve, listing, ledger, init):
        sub.add_argument("--config", type=Path, default=Path("flows.yaml"), metavar="FILE")
    return parser


def _rows(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1 to 1000000000")
    return int(text)


def _run(asked: argparse.Namespace) -> int:
    from pipelines import progress, server

    progress.to_stderr()
    server.settle(asked.config.parent)
    from pipelines.config import load_entry
    from pipelines.house import clean

    if not asked.dry_run:
        clean(asked.config.absolute().parent)  # whatever becomes of this one
    entry = load_entry(asked.config, asked.name, asked.overrides)
    if asked.dry_run:
        from pipelines.plan import plan

        print(plan(entry))
        return PUBLISHED
    with server.server() as ready:
        from pipelines import publish, steps

        steps.preflight(entry)
        publish.writable(entry)
        from pipelines.flows import NotPublished, likeness, summary_line

        ready()
        try:
            folder = likeness(str(asked.config), asked.name, asked.overrides)
        except NotPublished as refusal:
            folder = refusal.run
    result = json.loads(Path(folder, "result.json").read_text())
    _show(result)
    if asked.json:
        print(summary_line(result))
    return PUBLISHED if result["published"] else NOT_PUBLISHED


def _show(result: dict) -> None:
    print(f"{result['verdict']}: {result['name']} {result['version']}, {result['rows']} rows in {result['seconds']} s")
    for reason in result["reasons"]:
        print(f"  {reason}")
    print(f"published  {result['published'] or 'nothing'}")
    print(f"report     {result['run']}/report.html")


def _compare(asked: argparse.Namespace) -> int:
    from pipelines import progress
    from pipelines.compare import compare, table

    progress.to_stderr()
    found = compare(asked.config, asked.name, asked.generators.split(","), asked.overrides)
    print(table(found))
    if asked.json:
        print(json.dumps(found))
    return NOT_PUBLISHED if all("failed" in row for row in found["rows"]) else PUBLISHED


def _audit(asked: argparse.Namespace) -> int:
    from pipelines import progress
    from pipelines.audit import SHADOWS, TARGETS, audit, table

    progress.to_stderr()
    found = audit(asked.config, asked.name, asked.shadows or SHADOWS, asked.targets or TARGETS, asked.overrides)
    print(table(found))
    if asked.json:
        print(json.dumps(found))
    return PUBLISHED


def _serve(asked: argparse.Namespace) -> int:
    from pipelines import progress, server

    progress.to_stderr()
    server.settle(asked.config.parent)
    from pipelines.schedule import serve

    serve(asked.config)
    return PUBLISHED


def _list(asked: argparse.Namespace) -> int:
    from pipelines import server

    server.settle(asked.config.parent)
    from pipelines.config import load

    for name, entry in load(asked.config).items():
        when = f"{entry.schedule.cron} ({entry.schedule.timezone})" if entry.schedule else "on demand"
        print(f"{name:24}  {entry.source.kind} {entry.source.location}  {entry.family}  {when}")
    return PUBLISHED


def _ledger(asked: argparse.Namespace) -> int:
    from pipelines.house import ledger
    from privacy.ledger import summed

    found = summed(ledger(asked.config.absolute().parent).records())
    print(f"{'population':24}  {'fits':>6}  {'draws':>6}  {'releases':>8}  {'rows released':>13}  {'epsilon':>8}  {'of':>6}  {'delta':>7}  last")
    for name, of in found.items():
        budget = f"{of['budget'][0]:>6.3g}" if of["budget"] and of["delta"] in (None, of["budget"][1]) else "     –"
        private = f"       –  {budget}        –" if of["epsilon"] is None else f"{of['epsilon']:>8.3g}  {budget}  {of['delta']:>7.0e}"
        print(f"{name:24}  {of['fits']:>6,}  {of['draws']:>6,}  {of['releases']:>8,}  {of['rows']:>13,}  {private}  {of['last']}")
    if asked.json:
        print(json.dumps({"populations": found}))
    return PUBLISHED


def _init(asked: argparse.Namespace) -> int:
    from pipelines.init import entry_for, write_entry

    text = entry_for(asked.source, root=asked.config.parent, name=asked.name, subject=asked.subject, time=asked.time)
    if asked.print:
        print(text, end="")
        return PUBLISHED
    name = write_entry(asked.config, text)
    print(f"{asked.config}: entry {name!r} added. Look at the kind of each column, then: likeness run {name} --config {asked.config}")
    return PUBLISHED


def _sample(asked: argparse.Namespace) -> int:
    from pipelines.draw import draw

    print(draw(asked.model, asked.rows, asked.out, asked.where, asked.balance, asked.seed))
    return PUBLISHED


if __name__ == "__main__":
    sys.exit(main())
