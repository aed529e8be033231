"""The report's claims: the file, what stands beside them, and chapter 8's arithmetic, by hand.

Every `quote` in `book/claims.yml` was found in the report's text, or in the numbers that are known
of its final edition, when the file was written. Neither is in this repository; what is tested here
is that each value stands in its quote.
"""

from __future__ import annotations

import ast
import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ae_book.making import chapters
from ae_book.report import agreement, arithmetic, claims, quantities
from ae_book.report import figures as claim_figures
from ae_book.report.agreement import AGREES, NEAR, Row
from ae_book.report.claims import Claim, ClaimError
from ae_book.report.quantities import QUANTITIES
from ae_book.showing import figures
from ae_core.architecture import MINI, Architecture
from ae_core.data.cifar10 import CLASSES, Identity
from ae_core.machine import Memory
from ae_core.records import (
    BenchmarkRecord,
    Ceilings,
    ClassificationRecord,
    ClassificationResult,
    ClassifierSettings,
    EpochResult,
    OperationTime,
    ProfileRecord,
    StepTime,
    TestResult,
    TrainingRecord,
    TrainingSettings,
)
from tests import handmade

CARD = "A card"
FACTS = handmade.provenance(CARD)
PHOTOGRAPHS = Identity("official", "CIFAR-10", "x")
SYNTHETIC = Identity("synthetic", "synthetic", "x")


def about(**changes: Any) -> dict[str, Any]:
    """What every record has."""
    memory = Memory(2**30, 3 * 2**20)
    where = {"device": CARD, "device_kind": "gpu", "memory": memory}
    return {"provenance": FACTS, "dataset": PHOTOGRAPHS} | where | changes


def step(name: str, seconds: float, **changes: Any) -> StepTime:
    times = dict.fromkeys(("median", "low", "high"), seconds)
    fixed = {
        "name": name,
        "device": CARD,
        "device_kind": "gpu",
        "gpus": 1,
        "threads": 1,
        "batch_size": 1,
        "n": 10,
        "total": 10 * seconds,
    }
    return StepTime(**fixed | times | changes)


def benchmark(*rows: StepTime, **changes: Any) -> BenchmarkRecord:
    fixed = {"architecture": Architecture(), "seed": 0, "steps": rows}
    return BenchmarkRecord(**about() | fixed | changes)


TIMES = {"conv2d_forward": 2e-3, "conv2d_input_gradient": 1e-3, "conv2d_weight_gradient": 3e-3}
TIMES |= {"maxpool_forward": 1e-3, "maxpool_backward": 1e-3, "relu_forward": 2e-3}


def profile(phase: str, scale: float = 1.0, **changes: Any) -> ProfileRecord:
    operations = [
        OperationTime(
            name=f"conv1.{operation}",
            kind="convolution" if operation.startswith("conv2d") else "elementwise",
            operations=(f"conv1.{operation}",),
            n=1,
            **dict.fromkeys(("median", "low", "high"), scale * seconds),
            flops=10**9 if operation.startswith("conv2d") else 1,
            bytes=10**6,
            launches=2,
        )
        for operation, seconds in TIMES.items()
    ]
    fixed = {
        "phase": phase,
        "architecture": Architecture(),
        "seed": 0,
        "step": step(phase, 1e-2 * scale),
        "operations": operations,
        "ceilings": Ceilings(flops=1e12, bandwidth=1e12),
    }
    return ProfileRecord(**about() | fixed | changes)


def training(images: int = 1000, epochs: int = 2, batch: int = 1, **changes: Any) -> TrainingRecord:
    passes = [
        EpochResult(epoch=epoch, loss=0.1 / epoch, seconds=1, images=1)
        for epoch in range(1, epochs + 1)
    ]
    fixed = {
        "settings": TrainingSettings(images=images, batch_size=batch),
        "epochs": passes,
        "test": TestResult(images=1, mse=0.02, psnr=1, seconds=1),
        "gpus": 1,
        "threads": 1,
        "parameters_digest": "x",
    }
    return TrainingRecord(**about() | fixed | changes)


def classification(images: int = 50_000, **changes: Any) -> ClassificationRecord:
    """Class 0 is the hardest, class 9 the easiest; 3 and 5 are taken for each other most."""
    confusion = [[0] * 10 for _ in range(10)]
    for label in range(10):
        confusion[label][label] = 500 + 10 * label
        confusion[label][(label + 1) % 10] = 1000 - confusion[label][label] - 40
        confusion[label][(label + 5) % 10] = 40
    confusion[3][4], confusion[3][5], confusion[5][6], confusion[5][3] = 0, 430, 0, 410
    result = ClassificationResult(
        features=quantities.REPORTS_ENCODER,
        seed=0,
        dimensions=8192,
        scaled=True,
        settings=ClassifierSettings(),
        train_images=images,
        test_images=10_000,
        fit_seconds=12.5,
        predict_seconds=1,
        train_accuracy=0.9,
        confusion=confusion,
    )
    fixed = {"engine": "rapids", "classes": CLASSES, "parameters_digest": None, "results": [result]}
    return ClassificationRecord(**about() | fixed | changes)


@pytest.fixture(scope="module")
def stated() -> dict[str, Claim]:
    return claims.load()


def test_every_claim_with_a_counterpart_names_a_quantity_of_its_unit(stated):
    measured = [claim for claim in stated.values() if claim.measured]
    assert all(QUANTITIES[claim.measured].unit == claim.unit for claim in measured)
    assert {claim.measured for claim in measured} == set(QUANTITIES)


def test_times_and_what_depends_on_two_machines_are_never_judged(stated):
    for claim in stated.values():
        if claim.unit in ("s", "ms", "MB", "MiB") or "over CPU" in claim.says:
            assert not claim.measured, claim.id


def test_what_can_get_no_verdict_is_listed_with_the_reason(stated):
    table = agreement.unjudged(stated).set_index(["claim", "where"])
    assert list(table.loc[("basic over CPU", "the final edition, divided")]) == [
        "29.9x",
        "two machines",
    ]
    assert set(table["no verdict"]) == {
        "other hardware",
        "two machines",
        "counted otherwise",
        "another reference",
    }


def test_both_reports_are_there(stated):
    assert {claim.report for claim in stated.values()} == {"text", "final"}
    assert stated["final-v2-cumulative"].where == "the final edition"
    assert stated["v2-epoch"].where == "section 2.4"


def test_figures_are_shown_as_printed(stated):
    shown = {name: stated[name].shown for name in ("cpu-total", "v2-epoch", "max-difference")}
    assert shown == {
        "cpu-total": "593,297.50 s",
        "v2-epoch": "≈ 4.6 s",
        "max-difference": "1.2e-5",
    }
    assert stated["backward-over-forward"].shown == "3 to 4x"
    assert stated["easiest"].shown == "ship, frog, airplane, automobile"
    assert stated["final-v2-speedup"].number == pytest.approx(517.2 / 118.0)
    assert stated["final-v2-speedup"].where == "the final edition, divided"


def damaged(change: Any) -> list[dict[str, Any]]:
    content = yaml.safe_load((chapters.root() / claims.FILE).read_text("utf8"))
    change(content)
    return content


def field(name: str, value: Any, of: str = "cpu-epoch") -> Any:
    def change(content: list[dict[str, Any]]) -> None:
        claim = next(c for part in content for c in part["claims"] if c["id"] == of)
        claim[name] = value
        if value is None:
            del claim[name]

    return change


def quotient(value: Any) -> Any:
    def change(content: list[dict[str, Any]]) -> None:
        content[-1]["claims"][-1]["quotient"] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (field("value", "fast"), r"cpu-epoch: value: expected a valid number.*'fast'"),
        (field("value", float("nan")), r"cpu-epoch: value: expected a finite number"),
        (field("value", 59.5), r"quote: expected 59.5 in it, found '59.35 seconds'"),
        (field("value", None), r"cpu-epoch: value, names: expected one of the two"),
        (field("names", ["cat"]), r"cpu-epoch: value, names: expected one of the two"),
        (field("unit", "hours"), r"cpu-epoch: unit: expected .*found 'hours'"),
        (field("measured", "parameters"), r"measured, not_comparable: expected one of the two"),
        (field("unit", "s", "latent"), r"latent: unit: expected '' as measured, found 's'"),
        (field("measured", "mood", "latent"), r"expected a quantity's name, found 'mood'"),
        (field("says", None), r"cpu-epoch: says: missing"),
        (field("mood", "good"), r"cpu-epoch: mood: no such field"),
        (field("id", "parameters"), r"parameters: id: expected each once"),
        (quotient(["final-v1-epoch", "none"]), r"quotient: expected claims that stand above it"),
        (quotient(["final-v1-epoch", "hours"]), r"hours: expected a claim with a value"),
        (quotient("final-v1-epoch"), r"final-v2-speedup: quotient: expected a valid tuple"),
        (lambda content: content[0].pop("claims"), r"section 1: claims: expected a list"),
        (lambda content: content[0]["claims"].append(3), r"section 1: claims: .* found 3"),
    ],
)
def test_damaged_claims_are_refused_with_claim_and_field(tmp_path, change, told):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(damaged(change)))
    with pytest.raises(ClaimError, match=told) as caught:
        claims.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "a list of sections"), (b"text", "a list"), (b"[1]", "a list"), (b"{", "expected YAML"),
     (b"\xff\xfe\x00", "expected YAML")],
)  # fmt: skip
def test_files_that_hold_no_claims_are_refused(tmp_path, content, told):
    path = tmp_path / "claims.yml"
    path.write_bytes(content)
    with pytest.raises(ClaimError, match=told):
        claims.load(path)
    with pytest.raises(ClaimError, match="found no file"):
        claims.load(tmp_path / "none.yml")


def claim(**changes: Any) -> Claim:
    fixed = {
        "id": "x",
        "report": "text",
        "section": "1",
        "title": "x",
        "says": "x",
        "value": 2.0,
        "unit": "x",
        "quote": "2",
    }
    return Claim(**fixed | changes)


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (1.0, "agrees"),
        (AGREES, "agrees"),
        (1 / AGREES, "agrees"),
        (AGREES * 1.0001, "near"),
        (0.9999 / AGREES, "near"),
        (NEAR, "near"),
        (1 / NEAR, "near"),
        (NEAR * 1.0001, "differs"),
        (0.9999 / NEAR, "differs"),
        (0.0, "differs"),
    ],
)
def test_the_rule_at_its_edges(ratio, word):
    assert agreement.verdict(ratio) == word


def test_a_row_tells_ratio_and_agreement_or_that_there_is_none():
    assert Row(claim(), 2.1).ratio == pytest.approx(1.05)
    assert Row(claim(), 2.1).agreement == "agrees"
    assert (Row(claim(), None).ratio, Row(claim(), None).agreement) == (None, "not measured here")


@pytest.mark.parametrize(
    ("ours", "ratio"), [(1.5, 0.5), (3.0, 1.0), (3.7, 1.0), (4.0, 1.0), (6.0, 1.5)]
)
def test_a_range_is_compared_at_its_nearest_point(ours, ratio):
    assert Row(claim(value=3.0, to=4.0, quote="3-4x"), ours).ratio == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("ours", "word"),
    [(67.56, "agrees"), (68.8, "agrees"), (66.3, "agrees"), (69.0, "differs"), (63.87, "differs")],
)
def test_accuracies_agree_within_what_so_many_images_can_tell(ours, word):
    """Of 10,000 images at two in three, two standard errors of a difference are 1.33 points."""
    measured = "SVM: accuracy on test images"
    stated = claim(value=67.56, unit="%", quote="67.56%", measured=measured)
    assert Row(stated, ours).agreement == word


@pytest.mark.parametrize(
    ("ours", "word"),
    [(("dog", "cat"), "agrees"), (("cat", "deer"), "near"), (("deer", "ship"), "differs")],
)
def test_named_classes_agree_by_how_many_are_the_same(ours, word):
    named = claim(value=None, names=("cat", "dog"), unit="", quote="cat and dog")
    assert Row(named, ours).agreement == word
    assert Row(named, ours).ratio is None


def test_the_table_and_its_sentence(stated):
    rows = agreement.compare(stated, {})
    assert {row.claim.id for row in rows if row.ours is not None} == {"latent", "parameters"}
    assert "2 agree, 0 are near and 0 differ; 28 were not measured" in agreement.tally(rows)
    table = agreement.table(rows)
    assert list(table.loc[0]) == ["features in the latent", "8,192", "8,192", "1.00", "agrees"]
    assert list(table.loc[2])[2:] == ["", "", "not measured here"]
    assert "features in the latent (section 1)" in figures.svg(claim_figures.agreement(rows))


def ask(name: str, **records: Any) -> Any:
    return QUANTITIES[name].of({key.replace("__", "-"): value for key, value in records.items()})


def test_nothing_but_the_network_is_known_without_records():
    known = {name for name, quantity in QUANTITIES.items() if quantity.of({}) is not None}
    assert known == {"parameters", "features in the latent"}
    assert ask("parameters") == 751_875


def test_a_record_of_another_kind_under_a_name_is_not_taken():
    wrong = dict.fromkeys(
        ("gpu_benchmark", "profile_gpu-v2", "training_gpu-v2", "classification_controls"),
        training(epochs=0),
    )
    known = {name for name, quantity in QUANTITIES.items() if quantity.of(wrong) is not None}
    assert known == {"parameters", "features in the latent"}


def test_times_and_speedups_come_from_one_benchmark():
    all_phases = benchmark(step("cpu", 0.5), step("gpu-v1", 2e-3), step("gpu-v2", 5e-4))
    cpu = benchmark(step("cpu", 0.8))
    assert ask("gpu-v2 over gpu-v1", gpu_benchmark=all_phases) == pytest.approx(4)
    both = {"gpu_benchmark": all_phases, "cpu_benchmark": cpu}
    assert quantities.speedup(both, "gpu-v2", "cpu") == pytest.approx(1000)
    assert quantities.steps(both, "cpu") == [all_phases.steps[0]]
    apart = {"gpu_benchmark": benchmark(step("gpu-v2", 5e-4)), "cpu_benchmark": cpu}
    assert quantities.speedup(apart, "gpu-v2", "cpu") is None
    assert quantities.steps(apart, "cpu") == [*cpu.steps]


def test_a_small_network_and_larger_batches_are_another_work():
    for other in (
        benchmark(step("cpu", 1), architecture=MINI),
        benchmark(step("cpu", 1, batch_size=2)),
    ):
        assert quantities.steps({"cpu_benchmark": other}, "cpu") is None
    batch = profile("gpu-v1", step=step("gpu-v1", 1e-2, batch_size=2))
    assert quantities.profile({"profile_gpu-v1": batch}, "gpu-v1") is None


def test_a_graphs_time_does_not_stand_for_its_phases():
    timed = benchmark(step("gpu-v2", 5e-4), step("gpu-v2", 2e-4, graph=True))
    (found,) = quantities.steps({"gpu_benchmark": timed}, "gpu-v2")
    assert found.median == 5e-4


def test_profiles_give_times_shares_and_gains():
    old, new = profile("gpu-v1"), profile("gpu-v2", 0.5)
    basic = {"profile_gpu__basic__filter": profile("gpu-basic-filter")}
    assert quantities.seconds_of(old, "pooling") == pytest.approx(2e-3)
    assert ask("gpu-basic-filter: share of convolutions", **basic) == pytest.approx(60)
    assert ask("gpu-basic-filter: backward over forward", **basic) == pytest.approx(2)
    gain = "forward convolutions: gpu-v2 over gpu-v1"
    assert ask(gain, profile_gpu__v1=old, profile_gpu__v2=new) == pytest.approx(2)
    assert ask(gain, profile_gpu__v2=new) is None


@pytest.mark.parametrize(
    "changes",
    [{"device_kind": "emulator"}, {"architecture": MINI}, {"includes_launches": True}],
)
def test_profiles_of_an_emulator_a_small_network_or_launches_are_not_taken(changes):
    assert quantities.profile({"profile_gpu-v1": profile("gpu-v1", **changes)}, "gpu-v1") is None
    whole = profile("gpu-v1")
    assert quantities.profile({"profile_gpu-v1": whole}, "gpu-v1") is whole


def test_losses_are_of_the_longest_training_on_as_many_photographs():
    runs = {"a": training(epochs=2), "b": training(epochs=4), "c": training(images=999, epochs=9)}
    assert ask("training loss, 1,000 images", **runs) == pytest.approx(0.025)
    assert ask("test loss, 1,000 images", **runs) == 0.02
    assert ask("test loss, 1,000 images", a=training(test=None)) is None
    assert ask("training loss, 50,000 images", **runs) is None
    for other in (training(dataset=SYNTHETIC), training(batch=32)):
        assert ask("training loss, 1,000 images", a=other) is None


def test_the_classifier_counts_on_all_photographs_only():
    record = {"classification_controls": classification()}
    assert ask("SVM: accuracy on training images", **record) == pytest.approx(90)
    assert ask("SVM: accuracy on test images", **record) == pytest.approx(54.5)
    assert ask("four easiest classes", **record) == ("truck", "ship", "horse", "frog")
    assert ask("three hardest classes", **record) == ("airplane", "automobile", "bird")
    assert ask("most confused classes", **record) == ("cat", "dog")
    for other in (classification(images=600), classification(dataset=SYNTHETIC)):
        assert ask("SVM: accuracy on test images", classification_controls=other) is None


def test_an_accuracy_over_seeds_is_their_mean():
    one = classification()
    (result,) = [r for r in one.results if r.features == quantities.REPORTS_ENCODER][:1]
    swapped = (result.confusion[1], result.confusion[0], *result.confusion[2:])
    other = result.model_copy(update={"seed": 1, "confusion": swapped})
    records = {"classification_controls": one.model_copy(update={"results": (*one.results, other)})}
    results = quantities.svms(records, quantities.REPORTS_ENCODER)
    assert [r.seed for r in results] == [0, 1]
    accuracies = [r.test_accuracy for r in results]
    assert accuracies[0] != accuracies[1]
    mean = quantities.svm_accuracy(records, quantities.REPORTS_ENCODER)
    assert mean == pytest.approx(sum(accuracies) / 2)
    assert quantities.svm_accuracy(records, "smells") is None


ALL_RECORDS = {
    "gpu_benchmark": benchmark(step("cpu", 0.5)),
    "profile_gpu-v2": profile("gpu-v2"),
    "profile_gpu-basic": profile("gpu-basic", includes_launches=True),
}


def worked_out(stated: Any, records: Any) -> dict[str, dict[str, float]]:
    """By the id of its cell, what chapter 8 computes from the report's numbers."""
    path = chapters.root() / "book" / "08_claims.ipynb"
    cells = [c for c in json.loads(path.read_text("utf8"))["cells"] if c["cell_type"] == "code"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    names: dict[str, Any] = {}
    nodes = (node for source in sources.values() for node in ast.parse(source).body)
    imports: list[ast.stmt] = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "imports", "exec"), names)
    results: dict[str, dict[str, float]] = {}

    def table(claims: Any, printed: list[str], made: Any) -> None:
        assert all(name in claims for name in printed)
        arithmetic.table(claims, printed, made)
        values = {what: value for what, (value, *_) in made.items() if value is not None}
        results.setdefault(cell, {}).update(values)

    silent = SimpleNamespace(table=lambda frame: None)
    stub = SimpleNamespace(table=table, MEASURED=arithmetic.MEASURED, COUNTED=arithmetic.COUNTED)
    names |= {"stated": stated, "measured": records, "notes": silent, "arithmetic": stub}
    started = False
    for cell, source in sources.items():
        started = started or cell == "claims-said"
        if started and "notes.provenance" not in source:
            exec(source, names)
    return results


@pytest.fixture(scope="module")
def told(stated) -> dict[str, dict[str, float]]:
    return worked_out(stated, ALL_RECORDS)


BY_HAND = {
    "claims-cpu-total": {
        "so many images, so many epochs": 593_500,  # 59.35 x 50 x 200
        "the final edition's epoch, its epochs": 593_560,  # 29,678 x 20
        "an image, by the text": 59.35,
        "an image, by the final edition": 593.56,
        "one over the other": 10.0010,
        "an image, plain loops": 500,
    },
    "claims-basic-total-code": {
        "epoch times epochs": 9_042,
        "total over that product": 2.53639,
        "an epoch that would make the total": 114.67,
        "the final edition's epoch, its epochs": 19_832,
        "the CPU's run over basic's, by section 2.2": 1.312756,
        "the CPU's run over basic's, by section 3.1": 0.517570,
    },
    "claims-v1-total-code": {
        "epoch times epochs": 3_668,
        "second total over the first": 4.63822,
        "third total over the first": 6.25136,
        "the final edition's epoch, its epochs": 10_344,
    },
    "claims-v2-total-code": {
        "epochs that the total would hold": 500.704,
        "an epoch that would make the total": 11.5162,
        "the final edition's epoch, its epochs": 2_360,
        "that product over the total": 1.024643,
        "the final edition's epoch over the text's": 25.6522,
    },
    "claims-hours-code": {
        "the total": 164.805,
        "one epoch of all images": 0.824306,
        "one epoch, by the final edition": 8.243889,
    },
    "claims-basic-speedup": {
        "one speed-up over the other": 2.54735,
        "the division, by the image": 65.9444,
        "the division, by the total": 25.8698,
    },
    "claims-v1-speedup-code": {"the division, by the total": 1.000174},
    "claims-v2-speedup-code": {
        "the division, by the epoch": 3.98696,
        "the division, by section 2.4's totals": 7.38655,
        "the division, by section 3.1's totals": 9.95554,
    },
    "claims-chain-code": {
        "the chain's product": 634.92,
        "the division, by the image": 645.109,
        "that product over what is stated": 2.47051,
        "the division, by the total": 257.593,
    },
    "claims-profile-sums": {
        "basic, its rows together": 16.813,
        "basic, in no row": 28.397,
        "basic, in no row, of the epoch": 62.8113,
        "basic, convolutions of the epoch": 30.4556,
        "v1, its rows together": 8.055,
        "v1, in no row": 10.285,
        "v1, in no row, of the epoch": 56.0796,
        "v1, convolutions of the epoch": 27.4373,
    },
    "claims-v2-gain-code": {
        "gained by the epoch": 13.74,
        "gained by the convolutions": 3.686,
        "the convolutions' part of the gain": 26.8268,
        "the epoch, if only convolutions had changed": 14.654,
        "v1, in no row": 10.285,
        "v2, in no row, if the other rows stayed": 0.231,
        "bias launches for an image, one for a channel": 771,
        "v1, in no row, for each of those": 266.7964,
    },
    "claims-backward-code": {
        "basic, by its table": 1.144370,
        "v1, by its table": 1.300869,
        "by the arithmetic": 1.959459,  # 684.195840 / 349.175808 MFLOP
        "GPU v2, implicit GEMM": 2,
    },
    "claims-rate": {
        "convolutions of an epoch": 51.66858,  # 50,000 x (3 x 349.175808 - 14.155776) MFLOP
        "rate over the text's epoch": 11.23230,
        "rate of the forward pass": 28.52744,
        "rate of the backward pass": 46.60734,
        "rate of the convolutions": 38.38677,
        "rate over the final edition's epoch": 0.437869,
        "the text's rate over the final edition's": 25.6522,
        f"the most in float32, {CARD}": 1,
        "the text's convolutions, of that": 3838.677,
        "our v2's convolutions, of that": 50,
    },
    "claims-launches-code": {
        "launches for an image, one for a pair": 249_600,
        "a launch, by the text": 3.62260,
        "a launch, by the final edition": 79.4551,
        "a launch": 833_333,  # 10 ms for six operations of two launches
    },
    "claims-block-code": {
        "filters of the widest layer": 256,
        "planes of a block in z, at most": 64,
        "threads of a block, at most": 1024,
        "threads for each filter, at most": 4,
    },
    "claims-buffers": {
        "v2 saves, against v1": 2,
        "v2 saves, against basic": 0,
        "im2col of the largest layer, an image": 9,  # 256 x 32 x 32 x 9 x 4 bytes
        "im2col of all layers, an image": 12.7617,
    },
}


@pytest.mark.parametrize("cell", BY_HAND)
def test_the_arithmetic_of_each_contradiction(told, cell):
    assert told[cell] == pytest.approx(BY_HAND[cell], rel=1e-5)


def test_every_result_was_worked_out_by_hand_and_none_needs_records(told, stated):
    assert set(told) == set(BY_HAND)
    alone = worked_out(stated, {})
    assert set(alone) == set(told)
    measured = {
        "an image, plain loops", f"the most in float32, {CARD}", "a launch",
        "the text's convolutions, of that", "our v2's convolutions, of that",
        "GPU v2, implicit GEMM",
    }  # fmt: skip
    for cell, results in told.items():
        assert set(results) - set(alone[cell]) <= measured


def test_a_changed_claim_changes_what_follows(stated):
    other = stated | {"v2-epoch": stated["v2-epoch"].model_copy(update={"value": 115.162})}
    epochs = worked_out(other, {})["claims-v2-total-code"]["epochs that the total would hold"]
    assert epochs == pytest.approx(20, rel=1e-4)


def test_tables_show_printed_numbers_as_printed_and_results_rounded(stated):
    results = {
        "epochs in it": (500.704, "epochs"),
        "filters": (256, "", arithmetic.COUNTED),
        "not here": (None, "s", arithmetic.MEASURED),
    }
    table = arithmetic.table(stated, ["v2-epoch"], results)
    assert table.to_numpy().tolist() == [
        ["v2, an epoch", "≈ 4.6 s", "section 2.4"],
        ["epochs in it", "501 epochs", "follows"],
        ["filters", "256", "counted"],
    ]
