"""``weft doctor``: what is missing, and how to get it."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file.")
@click.option("--json", "as_json", is_flag=True, help="One object: ok, and the findings.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the broker, and for a Qdrant server.",
)
def command(config: Path | None, as_json: bool, timeout: float) -> None:
    """Say what a worker with these settings lacks: broker, topics, index, weights, disk.

    Changes nothing. The exit code is 1 when something is missing that Weft cannot get by itself.

    \b
    Examples:
      weft doctor
      WEFT_KAFKA=kafka:9092 WEFT_INDEX=server weft doctor --json
    """
    import dataclasses
    import json

    from stream.doctor import examine
    from stream.findings import Finding, Status
    from stream.settings import load

    styles = {Status.OK: "green", Status.LATER: "yellow", Status.MISSING: "red"}
    findings: list[Finding] = []
    for finding in examine(load(file=config), timeout):
        findings.append(finding)
        if not as_json:
            mark = click.style(f"{finding.status:8}", fg=styles[finding.status])
            click.echo(f"{mark} {finding.part:10} {finding.words}")
    ok = all(finding.status is not Status.MISSING for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": ok, "findings": [dataclasses.asdict(f) for f in findings]}))
    sys.exit(0 if ok else 1)
