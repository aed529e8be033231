"""The report's claims: the file, what stands beside them, and their contradictions, by hand.

Every `quote` in `book/claims.yml` was found in the report's text, or in the figures that are known
of its final edition, when the file was written. Neither is in this repository; what is tested here
is that each value stands in its quote.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ae_book.making import chapters
from ae_book.report import agreement, claims, contradictions, quantities
from ae_book.report import figures as claim_figures
from ae_book.report.agreement import AGREES, NEAR, Row
from ae_book.report.claims import Claim, ClaimError
from ae_book.report.quantities import QUANTITIES
from ae_book.showing import figures
from ae_core.architecture import MINI, Architecture
from ae_core.data.cifar10 import CLASSES, Identity
from ae_core.devices.device import Memory
from ae_core.records import (
    BenchmarkRecord,
    Ceilings,
    ClassificationRecord,
    ClassificationResult,
    ClassifierSettings,
    Difference,
    EpochResult,
    OperationTime,
    ProfileRecord,
    StepTime,
    TestResult,
    TrainingRecord,
    TrainingSettings,
    VerificationRecord,
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


def verification(**changes: Any) -> VerificationRecord:
    row = {"max_absolute": 2e-6, "mean_absolute": 3e-7, "relative": 1e-6, "tolerance": 1e-5}
    fixed = {
        "phase": "gpu-basic",
        "reference": "x",
        "architecture": Architecture(),
        "images": 1,
        "steps": 0,
        "learning_rate": None,
        "seed": 0,
        "differences": [Difference(quantity=name, **row) for name in ("latent", "reconstruction")],
    }
    return VerificationRecord(**about() | fixed | changes)


@pytest.fixture(scope="module")
def stated() -> dict[str, Claim]:
    return claims.load()


def test_every_claim_with_a_counterpart_names_a_quantity_of_its_unit(stated):
    measured = [claim for claim in stated.values() if claim.measured]
    assert len(measured) > 50
    assert all(QUANTITIES[claim.measured].unit == claim.unit for claim in measured)


def test_times_and_what_depends_on_two_machines_are_never_judged(stated):
    for claim in stated.values():
        if claim.measured and (claim.unit in ("s", "ms", "MB", "MiB") or "over CPU" in claim.says):
            assert not claim.comparable, claim.id


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


def field(name: str, value: Any) -> Any:
    def change(content: list[dict[str, Any]]) -> None:
        claim = next(c for c in content[1]["claims"] if c["id"] == "cpu-epoch")
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
        (field("unit", "ms"), r"cpu-epoch: unit: expected 's' as measured, found 'ms'"),
        (field("measured", "mood"), r"measured: expected a quantity's name, found 'mood'"),
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


def test_a_row_tells_ratio_and_agreement_or_why_there_is_none():
    assert Row(claim(), 2.1).ratio == pytest.approx(1.05)
    assert Row(claim(), 2.1).agreement == "agrees"
    assert (Row(claim(), None).ratio, Row(claim(), None).agreement) == (None, "not measured here")
    apart = Row(claim(not_comparable="other hardware"), 2.0)
    assert (apart.ratio, apart.agreement) == (1.0, "other hardware")


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
    assert "2 agree, 0 are near and 0 differ; 0 stand" in agreement.tally(rows)
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
        verification(),
    )
    known = {name for name, quantity in QUANTITIES.items() if quantity.of(wrong) is not None}
    assert known == {"parameters", "features in the latent"}


def test_times_and_speedups_come_from_one_benchmark():
    all_phases = benchmark(step("cpu", 0.5), step("gpu-v1", 2e-3), step("gpu-v2", 5e-4))
    cpu = benchmark(step("cpu", 0.8))
    assert ask("cpu: 1,000 images", gpu_benchmark=all_phases, cpu_benchmark=cpu) == 500
    assert ask("cpu: an image", cpu_benchmark=cpu) == pytest.approx(800)
    assert ask("gpu-v2: 50,000 images", gpu_benchmark=all_phases) == pytest.approx(25)
    assert ask("gpu-v2 over gpu-v1", gpu_benchmark=all_phases) == pytest.approx(4)
    assert ask("gpu-v2 over cpu", gpu_benchmark=all_phases) == pytest.approx(1000)
    without_cpu = benchmark(step("gpu-v2", 5e-4))
    assert ask("gpu-v2 over cpu", gpu_benchmark=without_cpu, cpu_benchmark=cpu) is None


def test_a_small_network_and_larger_batches_are_another_work():
    assert ask("cpu: an image", cpu_benchmark=benchmark(step("cpu", 1), architecture=MINI)) is None
    assert ask("cpu: an image", cpu_benchmark=benchmark(step("cpu", 1, batch_size=2))) is None
    batch = profile("gpu-v1", step=step("gpu-v1", 1e-2, batch_size=2))
    assert ask("gpu-v1: pooling", profile_gpu__v1=batch) is None


def test_a_graphs_time_does_not_stand_for_its_phases():
    timed = benchmark(step("gpu-v2", 5e-4), step("gpu-v2", 2e-4, graph=True))
    assert ask("gpu-v2: 50,000 images", gpu_benchmark=timed) == pytest.approx(25)


def test_profiles_give_times_shares_and_gains():
    old, new = profile("gpu-v1"), profile("gpu-v2", 0.5)
    assert ask("gpu-v1: pooling", profile_gpu__v1=old) == pytest.approx(1e3 * 50_000 * 2e-3)
    assert ask("gpu-v1: share of convolutions", profile_gpu__v1=old) == pytest.approx(60)
    assert ask("gpu-v1: backward over forward", profile_gpu__v1=old) == pytest.approx(2)
    gain = "forward convolutions: gpu-v2 over gpu-v1"
    assert ask(gain, profile_gpu__v1=old, profile_gpu__v2=new) == pytest.approx(2)
    assert ask(gain, profile_gpu__v2=new) is None


@pytest.mark.parametrize(
    "changes",
    [{"device_kind": "emulator"}, {"architecture": MINI}, {"includes_launches": True}],
)
def test_profiles_of_an_emulator_a_small_network_or_launches_are_not_taken(changes):
    assert ask("gpu-v1: pooling", profile_gpu__v1=profile("gpu-v1", **changes)) is None


@pytest.mark.parametrize(
    ("flops", "bandwidth", "word"),
    # Three convolutions of a GFLOP and a megabyte in 6 ms: 0.5 TFLOP/s and 0.5 GB/s.
    [(1e12, 1e12, "compute"), (1.001e12, 1e12, "neither"), (1e15, 1e9, "memory")],
)
def test_bound_means_half_of_a_ceiling(flops, bandwidth, word):
    ceilings = Ceilings(flops=flops, bandwidth=bandwidth)
    record = profile("gpu-v2", ceilings=ceilings)
    assert ask("what bounds gpu-v2", profile_gpu__v2=record) == (word,)
    bare = profile("gpu-v2", ceilings=None)
    assert ask("what bounds gpu-v2", profile_gpu__v2=bare) is None


def test_losses_are_of_the_longest_training_on_as_many_photographs():
    runs = {"a": training(epochs=2), "b": training(epochs=4), "c": training(images=999, epochs=9)}
    assert ask("training loss, 1,000 images", **runs) == pytest.approx(0.025)
    assert ask("test loss, 1,000 images", **runs) == 0.02
    assert ask("test loss, 1,000 images", a=training(test=None)) is None
    assert ask("training loss, 50,000 images", **runs) is None
    for other in (training(dataset=SYNTHETIC), training(batch=32)):
        assert ask("training loss, 1,000 images", a=other) is None


def test_memory_and_differences():
    trained = training()
    assert ask("gpu-v1: device memory", training_gpu__v1=trained) == 3
    assert ask("cpu-parallel: host memory", cpu_training=trained) == 1024
    host_only = training(memory=Memory(1, None))
    assert ask("gpu-v1: device memory", training_gpu__v1=host_only) is None
    checked = {"verification_gpu__basic": verification()}
    assert ask("gpu-basic: largest difference", **checked) == 2e-6
    assert ask("gpu-basic: mean difference", **checked) == 3e-7
    small = {"verification_gpu__basic": verification(architecture=MINI)}
    assert ask("gpu-basic: largest difference", **small) is None


def test_the_classifier_counts_on_all_photographs_only():
    record = {"classification_controls": classification()}
    assert ask("SVM: training", **record) == 12.5
    assert ask("SVM: accuracy on training images", **record) == pytest.approx(90)
    assert ask("SVM: accuracy on test images", **record) == pytest.approx(54.5)
    assert ask("four easiest classes", **record) == ("truck", "ship", "horse", "frog")
    assert ask("three hardest classes", **record) == ("airplane", "automobile", "bird")
    assert ask("most confused classes", **record) == ("cat", "dog")
    for other in (classification(images=600), classification(dataset=SYNTHETIC)):
        assert ask("SVM: training", classification_controls=other) is None


def test_an_accuracy_over_seeds_is_their_mean():
    one = classification()
    (result,) = [r for r in one.results if r.features == quantities.REPORTS_ENCODER][:1]
    swapped = (result.confusion[1], result.confusion[0], *result.confusion[2:])
    other = result.model_copy(update={"seed": 1, "confusion": swapped})
    records = {"classification_controls": one.model_copy(update={"results": (*one.results, other)})}
    found = quantities.svms(records, quantities.REPORTS_ENCODER)
    assert [r.seed for r in found] == [0, 1]
    accuracies = [r.test_accuracy for r in found]
    assert accuracies[0] != accuracies[1]
    mean = quantities.svm_accuracy(records, quantities.REPORTS_ENCODER)
    assert mean == pytest.approx(sum(accuracies) / 2)
    assert quantities.svm_accuracy(records, "smells") is None


ALL_RECORDS = {
    "gpu_benchmark": benchmark(step("cpu", 0.5)),
    "profile_gpu-v2": profile("gpu-v2"),
    "profile_gpu-basic": profile("gpu-basic", includes_launches=True),
}


@pytest.fixture(scope="module")
def told(stated) -> dict[str, contradictions.Contradiction]:
    return {c.title: c for c in contradictions.find_all(stated, ALL_RECORDS)}


BY_HAND = {
    "The CPU: one total, two times for an image": {
        "so many images, so many epochs": 593_500,  # 59.35 x 50 x 200
        "the final edition's epoch, its epochs": 593_560,  # 29,678 x 20
        "an image, by the text": 59.35,
        "an image, by the final edition": 593.56,
        "one over the other": 10.0010,
        "an image, plain loops": 500,
    },
    "Basic: two totals": {
        "their product": 9_042,
        "total over product": 2.53639,
        "an epoch that would make the total": 114.67,
        "the final edition's epoch, its epochs": 19_832,
        "the CPU's run over basic's, by section 2.2": 1.312756,
        "the CPU's run over basic's, by the table's total": 0.517570,
    },
    "V1: three totals": {
        "their product": 3_668,
        "second total over the first": 4.63822,
        "third total over the first": 6.25136,
        "the final edition's epoch, its epochs": 10_344,
    },
    "V2: an epoch that does not make its total": {
        "epochs that the total would hold": 500.704,
        "an epoch that would make the total": 11.5162,
        "the final edition's epoch, its epochs": 2_360,
        "that product over the total": 1.024643,
        "the final edition's epoch over the text's": 25.6522,
    },
    "Several hours": {
        "the total": 164.805,
        "one epoch of all images": 0.824306,
        "one epoch, by the final edition": 8.243889,
    },
    "CPU to basic: by the image and by the total": {
        "one over the other": 2.54735,
        "the division, by the image": 65.9444,
        "the division, by the total": 25.8698,
    },
    "Basic to v1: a gain, and none": {"the division, by the total": 1.000174},
    "V1 to v2: three gains": {
        "the division, by the epoch": 3.98696,
        "the division, by section 2.4's totals": 7.38655,
        "the division, by section 3.1's totals": 9.95554,
    },
    "CPU to v2: a chain that does not multiply": {
        "their product": 634.92,
        "the division, by the image": 645.109,
        "product over what is stated": 2.47051,
        "the division, by the total": 257.593,
    },
    "A profile of an epoch that is shorter than the epoch": {
        "basic, its rows together": 16.813,
        "basic, in no row": 28.397,
        "basic, in no row, of the epoch": 62.8113,
        "basic, convolutions of the epoch": 30.4556,
        "v1, its rows together": 8.055,
        "v1, in no row": 10.285,
        "v1, in no row, of the epoch": 56.0796,
        "v1, convolutions of the epoch": 27.4373,
    },
    "V2: what changed does not account for what was gained": {
        "gained by the epoch": 13.74,
        "gained by the convolutions": 3.686,
        "the convolutions' part of the gain": 26.8268,
        "the epoch, if only convolutions had changed": 14.654,
        "v1, in no row": 10.285,
        "v2, in no row, if the other rows stayed": 0.231,
        "bias launches for an image, one for a channel": 771,
        "v1, in no row, for each of those": 266.7964,
    },
    "Backward against forward: the text, its table, and the arithmetic": {
        "basic, by its table": 1.144370,
        "v1, by its table": 1.300869,
        "by the arithmetic": 1.959459,  # 684.195840 / 349.175808 MFLOP
        "GPU v2, implicit GEMM": 2,
    },
    "The arithmetic that v2's times ask for": {
        "convolutions of an epoch": 51.66858,  # 50,000 x (3 x 349.175808 - 14.155776) MFLOP
        "rate over the epoch": 11.23230,
        "rate of the forward pass": 28.52744,
        "rate of the backward pass": 46.60734,
        "rate of the convolutions": 38.38677,
        "rate over the final edition's epoch": 0.437869,
        f"the most in float32, {CARD}": 1,
        "convolutions, GPU v2, implicit GEMM": 0.5,
    },
    "Launches that would take no time": {
        "launches for an image, one for a pair": 249_600,
        "a launch, by section 2.2": 3.62260,
        "a launch, by the final edition": 79.4551,
        "a launch": 833_333,  # 10 ms for six operations of two launches
    },
    "A block with a plane of threads for each filter": {
        "filters of the widest layer": 256,
        "planes of a block in z, at most": 64,
        "threads of a block, at most": 1024,
        "threads for each filter, at most": 4,
    },
    "Buffers that v2 removes, and that were not there": {
        "v2 saves, against v1": 2,
        "v2 saves, against basic": 0,
        "im2col of the largest layer, an image": 9,  # 256 x 32 x 32 x 9 x 4 bytes
        "im2col of all layers, an image": 12.7617,
    },
}


@pytest.mark.parametrize("title", BY_HAND)
def test_the_arithmetic_of_each_contradiction(told, title):
    for what, value in BY_HAND[title].items():
        assert told[title][what] == pytest.approx(value, rel=1e-5), what


def test_every_derived_figure_was_worked_out_by_hand(told):
    assert set(told) == set(BY_HAND)
    for title, contradiction in told.items():
        derived = {f.what for f in contradiction.figures if not f.as_printed}
        assert derived == set(BY_HAND[title])
        assert contradiction.follows.endswith(".")


def test_each_subject_has_contradictions_and_they_need_no_records(stated):
    found = contradictions.find_all(stated, {})
    subjects = {contradiction.subject for contradiction in found}
    assert subjects == {"totals", "speed-ups", "profile", "machine", "memory"}
    measured = [f for c in found for f in c.figures if f.where == "measured here"]
    assert not measured


def test_tables_show_printed_figures_as_printed_and_derived_ones_rounded(told):
    table = contradictions.table(told["V2: an epoch that does not make its total"])
    assert list(table.loc[0]) == ["v2, an epoch", "≈ 4.6 s", "section 2.4"]
    assert list(table.loc[2]) == ["epochs that the total would hold", "501 epochs", "follows"]


def test_a_changed_claim_changes_what_follows(stated):
    other = stated | {"v2-epoch": stated["v2-epoch"].model_copy(update={"value": 115.162})}
    found = {c.title: c for c in contradictions.find_all(other, {})}
    epochs = found["V2: an epoch that does not make its total"]
    assert epochs["epochs that the total would hold"] == pytest.approx(20, rel=1e-4)
