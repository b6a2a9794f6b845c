"""``weft models``: fetch the models' weights, and show which are where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stream.settings import Settings

_MEBIBYTE = 1 << 20


@click.group()
def command() -> None:
    """Fetch and show the models' weights.

    Both models come with Python packages, so no hub is needed; WEFT_ENCODER and WEFT_LLM name
    other ones, as a folder or on a hub.
    """


@command.command()
def fetch() -> None:
    """Find both models, check them, and make what the worker loads.

    The LLM is converted to safetensors and the title encoder exported to ONNX, in WEFT_DATA_DIR,
    once. The worker does the same at its first start; a second fetch checks every byte anew.

    \b
    Examples:
      weft models fetch
      WEFT_DATA_DIR=/var/lib/weft weft models fetch
    """
    from models import weights
    from models.encoder import load_encoder
    from models.llm_backends import load_scorer
    from stream import settings

    chosen = settings.load()
    weights.smollm2(chosen.llm, chosen.data_dir, _say, thorough=True)
    scorer = load_scorer(chosen.llm, chosen.data_dir, chosen.threads, _say)
    _say(f"LLM: {scorer.name}")
    encoder = load_encoder(
        chosen.encoder, chosen.data_dir, chosen.threads, _say, chosen.encoder_type
    )
    _say(f"title encoder: {encoder.name}, {encoder.dim} dimensions")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
def show(as_json: bool) -> None:
    """Say where the weights are, their sizes, checksums and licences.

    Changes nothing. Exits with 1 if a model is not ready.

    \b
    Examples:
      weft models show
      weft models show --json
    """
    import orjson

    from stream import settings

    shown = _shown(settings.load())
    if as_json:
        click.echo(orjson.dumps(shown))
    else:
        _print(shown)
    if not all(model["ready"] for model in shown["models"]):
        raise click.exceptions.Exit(1)


def _say(words: str) -> None:
    click.echo(words, err=True)


def _shown(chosen: Settings) -> dict[str, Any]:
    """What ``show`` prints: the models, and what was made of them."""
    from models import making, weights

    models = [
        {
            "name": model.name,
            "ready": model.ready,
            "origin": model.origin,
            "folder": str(model.folder) if model.folder else None,
            "bytes": sum(f.stat().st_size for f in model.folder.glob("*.safetensors"))
            if model.folder
            else 0,
            "sha256": model.sha256,
            "licence": model.licence,
        }
        for model in weights.describe(chosen.encoder, chosen.llm, chosen.data_dir)
    ]
    root = chosen.data_dir / "weights"
    folders = sorted(root.glob("*/")) if root.is_dir() else []
    made = [
        {"folder": str(found.folder), "bytes": found.bytes, "whole": found.whole}
        for folder in folders
        if (found := making.look(folder)) is not None
    ]
    return {"data_dir": str(chosen.data_dir), "models": models, "made": made}


def _print(shown: dict[str, Any]) -> None:
    for model in shown["models"]:
        click.echo(f"{model['name']}: {'ready' if model['ready'] else 'not ready'}")
        click.echo(f"  from     {model['origin']} ({model['licence']})")
        if model["folder"]:
            click.echo(f"  in       {model['folder']}")
            click.echo(f"  weights  {model['bytes'] / _MEBIBYTE:.0f} MiB, sha256 {model['sha256']}")
        else:
            click.echo("  run `weft models fetch`")
    for folder in shown["made"]:
        state = "" if folder["whole"] else ", not whole: it will be made anew"
        click.echo(f"made: {folder['folder']}, {folder['bytes'] / _MEBIBYTE:.0f} MiB{state}")
