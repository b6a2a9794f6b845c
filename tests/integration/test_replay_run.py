"""``weft replay`` as a person runs it: measured beside baselines, reported, compared."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.bundle.files import open_bundle
from stream.cli import cli
from stream.demo.sample.catalogue import DAY_MS, START_MS
from stream.demo.sample.files import main
from stream.replay.result import result
from tests import tiny_llama
from tests.replay_shop import DAY, START

KINDS = ("midi dress", "wool coat", "linen shirt", "ankle boots")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shoppers who keep to one kind of thing, so that titles tell what comes next."""
    folder = tmp_path_factory.mktemp("shop")
    titles = [f"{kind} number {n}" for kind in KINDS for n in range(12)]
    with (folder / "catalog.jsonl").open("w") as file:
        for n, title in enumerate(titles):
            row = {"item_id": f"i{n}", "title": title, "category": title.rsplit(" number", 1)[0]}
            file.write(json.dumps(row) + "\n")
    rng = np.random.default_rng(1)
    with (folder / "events.jsonl").open("w") as file:
        for day in range(10):
            for user in range(24):
                item = f"i{12 * (user % len(KINDS)) + rng.integers(12)}"
                row = {"type": "click", "user_id": f"u{user}", "item_id": item}
                file.write(json.dumps({**row, "ts": START + day * DAY}) + "\n")
        file.write("no event\n")
    return folder


def run(
    shop: Path, report: Path, *options: str, command: str = "replay", **settings: str
) -> Result:
    words = [*command.split(), "--events", str(shop / "events.jsonl"), "--catalog",
             str(shop / "catalog.jsonl"), "--report", str(report), *options]  # fmt: skip
    return CliRunner().invoke(
        cli, words, env={"WEFT_THREADS": "1", **settings}, catch_exceptions=False
    )


@pytest.mark.long
def test_a_replay_is_measured_beside_baselines_and_reported(shop: Path, tmp_path: Path) -> None:
    told = run(
        shop, tmp_path / "one", "--protocol", "time", "--no-llm", "--targets", "new",
        "--baselines", "most-popular,title-similarity,item-knn",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = result.read(tmp_path / "one")
    assert [each.name for each in found.contenders] == [
        "zero-shot, no LLM", "most-popular", "title-similarity", "item-knn",
    ]  # fmt: skip
    best = max(found.contenders[1:], key=lambda each: each.metrics["NDCG@10"].mean)
    assert found.reference == best.name, "the strongest baseline"
    assert found.data.set_aside == 1
    questions = found.protocol.questions
    assert 0 < questions < 24 * 2, "a fifth of ten days, and new things only"
    live = found.contender("zero-shot, no LLM")
    assert live.metrics["HR@10"].mean > found.contender("most-popular").metrics["HR@10"].mean
    assert {each.of for each in live.slices} >= {"item's age", "shopper's events", "category"}
    assert sum(s.questions for s in live.slices if s.of == "shopper's events") == questions
    page = (tmp_path / "one" / "report.html").read_text("utf-8")
    assert "zero-shot, no LLM" in page

    again = run(
        shop, tmp_path / "two", "--protocol", "time", "--no-llm", "--targets", "new", "--json"
    )
    assert json.loads(again.stdout)["contenders"][0]["metrics"]["HR@10"]["mean"] == (
        live.metrics["HR@10"].mean
    )
    compared = CliRunner().invoke(
        cli,
        ["replay", "--compare", str(tmp_path / "one"), str(tmp_path / "two")],
        catch_exceptions=False,
    )
    assert compared.exit_code == 0, compared.output
    assert "cannot tell" in compared.output
    chosen = CliRunner().invoke(
        cli,
        ["replay", "--compare", str(tmp_path / "one"), str(tmp_path / "two"), "--of-a", "item-knn"],
        catch_exceptions=False,
    )
    assert "A (item-knn)" in chosen.output
    assert "B (zero-shot, no LLM)" in chosen.output
    cold = next(s for s in live.slices if s.of == "item's age")
    assert cold.gains["HR@10"].low <= cold.gains["HR@10"].mean <= cold.gains["HR@10"].high
    reference = found.contender(found.reference)
    assert all(each.gains["HR@10"].mean == 0 for each in reference.slices)


def test_which_contenders_are_compared_is_asked_for_with_compare_alone(shop: Path) -> None:
    told = CliRunner().invoke(cli, ["replay", "--events", str(shop), "--of-a", "item-knn"])
    assert told.exit_code == 2
    assert "--compare A B" in told.output


@pytest.mark.long
def test_an_experiment_compares_variants_on_the_same_questions(shop: Path, tmp_path: Path) -> None:
    told = run(
        shop, tmp_path / "mix", "--epochs", "2", "--strategies", "id,title",
        command="experiment mixup",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = result.read(tmp_path / "mix")
    assert [each.kind for each in found.contenders] == ["variant", "variant"]
    assert found.reference == "id"
    assert found.contender("id").gains["HR@10"].mean == 0


@pytest.mark.long
def test_each_way_to_tune_the_llm_is_compared_with_lora(shop: Path, tmp_path: Path) -> None:
    told = run(
        shop, tmp_path / "peft", "--epochs", "1", "--llm-tokens", "2000", "--methods",
        "lora,prefix,qlora", command="experiment peft",
        WEFT_LLM=str(tiny_llama.write(tmp_path / "llm")),
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = result.read(tmp_path / "peft")
    names = [each.name for each in found.contenders]
    assert names[:3] == ["no LLM", "lora", "prefix"]
    assert found.reference == "lora"
    assert "qlora" in names or any("qlora is left out" in note for note in found.notes)
    assert found.contender("lora").reranked == 1
    assert found.contender("no LLM").reranked == 0
    for name in ("lora", "prefix"):
        assert " trainable parameters, " in found.contender(name).words
    with np.load(tmp_path / "peft" / result.ANSWERS) as kept:
        answers = dict(kept)
    assert (answers["ndcg10_0"] != answers["ndcg10_1"]).any(), "the LLM has an order of its own"


@pytest.mark.long
def test_parts_are_taken_from_the_llm_and_change_its_order(shop: Path, tmp_path: Path) -> None:
    llm = str(tiny_llama.write(tmp_path / "llm"))
    told = run(
        shop, tmp_path / "llm-out", "--epochs", "1", "--llm-tokens", "6000",
        command="experiment llm", WEFT_LLM=llm,
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = result.read(tmp_path / "llm-out")
    names = [each.name for each in found.contenders]
    parts = ("no opening line", "the newest step only", "three words a title", "no adapter",
             "random adapter")  # fmt: skip
    assert names == [
        "no LLM", "with the LLM", "the LLM alone", *(f"alone, {part}" for part in parts)
    ]  # fmt: skip
    assert found.reference == "no LLM"
    with np.load(tmp_path / "llm-out" / result.ANSWERS) as kept:
        answers = dict(kept)
    alone = answers[f"ndcg10_{names.index('the LLM alone')}"]
    for part in parts:
        if part != "three words a title":  # the shop's titles are little longer
            assert (answers[f"ndcg10_{names.index(f'alone, {part}')}"] != alone).any(), part


def test_an_unknown_baseline_is_refused_with_those_there_are(shop: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        cli,
        ["replay", "--events", str(shop / "events.jsonl"), "--catalog", str(shop / "catalog.jsonl"),
         "--report", str(tmp_path), "--baselines", "magic"],
    )  # fmt: skip
    assert told.exit_code != 0
    assert "most-popular" in str(told.exception)


def test_a_log_without_a_question_says_what_to_do(shop: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        cli,
        ["replay", "--events", str(shop / "events.jsonl"), "--catalog", str(shop / "catalog.jsonl"),
         "--report", str(tmp_path), "--from", "2035-01-01", "--no-llm"],
    )  # fmt: skip
    assert "give another --from" in str(told.exception)


@pytest.mark.long
def test_categories_held_out_of_a_bundles_training_are_a_slice(shop: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(
        cli,
        ["train", "--events", str(shop / "events.jsonl"), "--catalog", str(shop / "catalog.jsonl"),
         "--out", str(tmp_path / "bundle"), "--preset", "quick", "--no-llm", "--epochs", "1",
         "--until", str(START + 8 * DAY), "--hold-out-categories", "wool coat"],
        env={"WEFT_THREADS": "1"}, catch_exceptions=False,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    split = open_bundle(tmp_path / "bundle").manifest.told.split
    assert split["held_out_categories"] == ["wool coat"]
    told = run(
        shop, tmp_path / "out", "--protocol", "time", "--no-llm", "--bundle", "none",
        "--bundle", str(tmp_path / "bundle"),
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = result.read(tmp_path / "out")
    for each in found.contenders:
        sizes = {s.name: s.questions for s in each.slices if s.of == "category"}
        assert sizes["held out of training"] == sizes["wool coat"] > 0
    assert any("wool coat" in note for note in found.notes)


@pytest.mark.long
def test_a_shop_that_shows_what_was_bought_is_replayed_so(tmp_path: Path) -> None:
    """People who buy one thing every day: the setting alone decides whether lists say so."""
    titles = [f"{kind} number {n}" for kind in KINDS for n in range(12)]
    rows = [{"item_id": f"i{n}", "title": title} for n, title in enumerate(titles)]
    bought = [
        {"type": "purchase", "user_id": f"u{user}", "item_id": f"i{user}", "ts": START + day * DAY}
        for day in range(4)
        for user in range(12)
    ]
    for name, lines in (("catalog", rows), ("events", bought)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    hits = {}
    for bought_again in ("hide", "show"):
        told = run(tmp_path, tmp_path / "out", "--no-llm", WEFT_BOUGHT=bought_again)
        assert told.exit_code == 0, told.output
        hits[bought_again] = result.read(tmp_path / "out").contenders[0].metrics["HR@5"].mean
    assert hits == {"hide": 0.0, "show": 1.0}


@pytest.mark.long
def test_other_options_do_not_go_on_from_what_was_answered(shop: Path, tmp_path: Path) -> None:
    report = tmp_path / "same"
    run(shop, report, "--no-llm", "--protocol", "last")
    first = result.read(report)
    run(shop, report, "--no-llm", "--protocol", "time")
    second = result.read(report)
    run(shop, report, "--no-llm", "--protocol", "last")
    third = result.read(report)
    assert first.protocol != second.protocol
    assert first.contenders[0].metrics == third.contenders[0].metrics


@pytest.mark.long
def test_the_samples_printed_command_replays_its_held_out_days(tmp_path: Path) -> None:
    """As printed, but for the bundle, which knows nothing of a shop so small."""
    few = "--products 50 --arrivals 5 --held-out 10 --shoppers 8 --days 5 --held-out-days 9"
    done = CliRunner().invoke(main, [str(tmp_path / "shop"), *few.split()])
    assert done.exit_code == 0, done.output
    command = shlex.split(done.output.partition("weft ")[2].replace("\\\n", " "))
    at = command.index("demo")
    del command[at - 1 : at + 1]
    replayed = CliRunner().invoke(cli, command, env={"WEFT_THREADS": "1"}, catch_exceptions=False)
    assert replayed.exit_code == 0, replayed.output
    asked = result.read(tmp_path / "shop" / "replay").protocol
    assert asked.asked_from >= START_MS + 5 * DAY_MS
    assert asked.questions > 10
