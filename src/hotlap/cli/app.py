"""The commands put together. Imports typer, so only `main` imports it."""

from __future__ import annotations

from typing import Annotated

import typer

import hotlap

from . import bench, compare, config, demo, doctor, rules

app = typer.Typer(
    help="hotlap: lap times of your hot functions, in production.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hotlap {hotlap.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.command("config")(config.config)
app.command("rules")(rules.rules)
