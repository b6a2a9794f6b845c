"""``weft schema``: the contracts of the topics, for producers and readers in any language."""

from __future__ import annotations

import click

from stream.contracts.topics import ALL_TOPICS


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["json-schema", "asyncapi"]),
    default="json-schema",
    show_default=True,
    help="JSON Schema 2020-12 of the values, or one AsyncAPI 3 document of everything.",
)
@click.option("--topic", type=click.Choice(ALL_TOPICS), help="Only this topic's JSON Schema.")
def command(form: str, topic: str | None) -> None:
    """Print the contracts of the topics.

    \b
    Examples:
      weft schema --topic products
      weft schema --format asyncapi > weft.asyncapi.json
    """
    from importlib.metadata import version

    import orjson

    from stream import settings
    from stream.contracts import schema

    if form == "asyncapi":
        if topic:
            raise click.UsageError("--topic goes with --format json-schema")
        document = schema.asyncapi(settings.load(), version("weft"))
    else:
        document = schema.json_schema(topic) if topic else schema.json_schemas()
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
