"""On a GPU kernels compute what they compute on a CPU, and no step of a training waits for it."""

import os
import subprocess
import sys
from itertools import count

import pytest
import torch
from interrupted import Stopped, StoppingAt
from small_trainings import pruning
from test_cut import CALIBRATION, METHODS

from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.budgets.budget import Limit
from rosita_core.compression.kept import Kept
from rosita_core.compression.low_rank import factorize
from rosita_core.compression.prune_record import DOCUMENT, from_json
from rosita_core.compression.ranked import importance_of
from rosita_core.compression.schedule import PruneEvent
from rosita_core.compression.surgery import prune
from rosita_core.distillation.objective import distillation_objective
from rosita_core.measuring.latency import measure_side_by_side
from rosita_core.measuring.memory import forget_peak, peak_cuda_mib
from rosita_core.measuring.score import predict_logits, scorer
from rosita_core.model.checkpoint import placed, shape_of
from rosita_core.model.shape import narrowed
from rosita_core.stages.cut import CUT, CutSettings, cut
from rosita_core.stages.measure import MeasureSettings, measure
from rosita_core.training.batches import Batch
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import train
from rosita_core.training.placement import Placement

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

# cuBLAS reads it before the first product of the process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
CPU = Placement("cpu", "fp32")
PLACEMENTS = {precision: Placement("cuda", precision) for precision in ("fp32", "bf16")}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SLEEP = 200_000_000  # cycles, 0.1 s at 2 GHz


def what_stayed(done):
    """Layers and heads that the prunes of a training or a cut left, and the shapes."""
    records = from_json(done.documents[DOCUMENT])
    return [(record.shape, record.layers, record.heads) for record in records]


@pytest.fixture(params=PLACEMENTS)
def on_gpu(request):
    return PLACEMENTS[request.param]


@pytest.fixture
def gpu():
    return PLACEMENTS["fp32"]


@pytest.fixture
def repeatable():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def waiting_is_an_error():
    """What is called between `True` and `False` may not wait for the GPU."""
    yield lambda on: torch.cuda.set_sync_debug_mode("error" if on else "default")
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def distill(sized, rows, run_of, training, distillation):
    """A distillation of 16 steps that prunes heads, units and rank at step 3."""
    teacher, data = sized((4, 4), (8, 8)), rows(32)
    events = (PruneEvent(3, narrowed(shape_of(teacher.config), 2, 5, 6)),)

    def run(placement, dropout, checkpoints=None):
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        reports = []
        trained = train(
            sized((4, 4), (8, 8), seed=1, **rates),
            training(epochs=2, learning_rate=1e-3),
            distillation_objective(teacher, distillation(), placement),
            run_of(data, None, reports.append, checkpoints, placement),
            lambda _: {"score": 0.5},
            pruning(events),
        )
        return trained, [one.metrics["train/loss"] for one in reports if one.metrics]

    return run


@pytest.mark.parametrize("distilled", [True, False])
def test_no_step_of_a_training_waits(
    sized, rows, run_of, training, distillation, on_gpu, waiting_is_an_error, distilled
):
    model = sized((4, 4), (8, 8), hidden_dropout_prob=0.2)
    teach = distillation_objective(model, distillation(), on_gpu)
    objective = teach if distilled else hard_label_objective
    events = (PruneEvent(50, narrowed(shape_of(model.config), 2, 5, 6)),)
    call, reports = count(1), []

    def watched(student, batch):
        # Reports, which wait, are after every tenth of 100 steps.
        waiting_is_an_error(next(call) % 10 not in (0, 1))
        return objective(student, batch)

    settings = training(accumulate=1)
    run = run_of(rows(400), None, reports.append, placement=on_gpu)
    train(model, settings, watched, run, lambda _: {"score": 0.5}, pruning(events))
    assert [report.step for report in reports] == list(range(10, 101, 10))
    # The watch itself sees what waits.
    waiting_is_an_error(True)
    with pytest.raises(RuntimeError, match="synchronizing"):
        float(torch.ones((), device="cuda"))


def test_a_batch_does_not_wait_for_the_gpu():
    size = (512, 512)
    batch = Batch(*(torch.randint(0, 9, size) for _ in range(3)), torch.zeros(512))
    batch.to("cuda")  # the first pinned memory is asked of the driver, which waits
    done = torch.cuda.Event()
    torch.cuda._sleep(SLEEP)
    done.record()
    moved = batch.to("cuda")
    assert not done.query()
    for name in ("input_ids", "attention_mask", "token_type_ids", "labels"):
        assert torch.equal(getattr(moved, name).cpu(), getattr(batch, name))


def test_distilling_and_pruning_on_a_gpu_is_that_on_a_cpu(distill, gpu, inputs):
    (here, losses), (there, their_losses) = distill(CPU, 0.0), distill(gpu, 0.0)
    assert what_stayed(there) == what_stayed(here)
    assert their_losses == pytest.approx(losses, rel=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(
            there.model(*inputs()).logits, here.model(*inputs()).logits, rtol=1e-2, atol=1e-3
        )


@pytest.mark.parametrize("stops", [[1], [2, 3, 4], [7, 12]])
def test_a_stopped_training_ends_with_the_bits_of_a_whole_one(
    distill, on_gpu, repeatable, same_weights, tmp_path, stops
):
    whole, losses = distill(on_gpu, 0.2)
    checkpoints = StoppingAt(tmp_path, stops)
    while True:
        try:
            resumed, last_losses = distill(on_gpu, 0.2, checkpoints)
            break
        except Stopped:
            continue
    assert len(checkpoints.saved) == len(stops)
    assert same_weights(resumed.model, whole.model)
    assert last_losses == losses[-len(last_losses) :]


def test_random_numbers_on_the_gpu_go_on_as_before(distill, gpu):
    before = torch.cuda.get_rng_state()
    distill(gpu, 0.2)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_bf16_learns(sized, rows, run_of, training, scoring, framing):
    half, kinds = PLACEMENTS["bf16"], set()

    def objective(model, batch):
        kinds.add(model(batch.input_ids, batch.attention_mask).logits.dtype)
        return hard_label_objective(model, batch)

    reports, held_out = [], rows(80, seed=1)
    score = scorer(held_out, scoring(), framing, half)
    settings = training(epochs=6, keep_best=True, batch_size=8, learning_rate=3e-3)
    model = sized((4, 4), (8, 8), initializer_range=0.1)
    run = run_of(rows(300), held_out, reports.append, placement=half)
    trained = train(model, settings, objective, run, score)
    assert kinds == {torch.bfloat16}
    assert {weight.dtype for weight in trained.model.parameters()} == {torch.float32}
    assert trained.best_score > 0.95
    losses = [report.metrics["train/loss"] for report in reports]
    assert losses[-1] < 0.5 * losses[0]


def test_surgery_and_factorization(sized, gpu):
    model = sized((4, 3), (10, 7))
    heads = (torch.tensor([0, 2]), torch.tensor([1]))
    kept = Kept((0, 1), heads, (torch.tensor([0, 3, 9]), torch.tensor([1, 6])), 5)
    here, there = prune(model, kept), prune(placed(model, gpu.device), kept)
    assert there.device.type == "cuda" and shape_of(there.config) == shape_of(here.config)
    for name, tensor in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name].cpu(), tensor, **CLOSE)
    matrix = torch.randn(300, 40, generator=torch.Generator().manual_seed(0))
    ours, theirs = factorize(matrix, 12), factorize(matrix.cuda(), 12)
    for part in ("left", "right", "singular_values"):
        torch.testing.assert_close(getattr(theirs, part).cpu(), getattr(ours, part), **CLOSE)


@pytest.fixture
def compressed(sized, rows, framing, scoring):
    """Measure and cut one model by a method: scores of heads and units, and the cut model."""
    dense, train_rows, selection = sized((4, 4, 4), (24, 24, 24)), rows(24), rows(8, seed=1)

    def run(placement, criterion, **changes):
        asked = MeasureSettings(CALIBRATION, labels=True, regression=False)
        found = measure(dense, train_rows, framing, asked, placement, lambda _: None)
        choice = {
            "allocation": Uniform(False),
            "rearrange": False,
            "repair": None,
            "limit": Limit("encoder", 0.5, None, None),
        }
        settings = CutSettings(
            criterion=criterion,
            floor_heads=1,
            floor_units=2,
            embedding_rank=None,
            calibration=CALIBRATION,
            scoring=scoring(),
            **(choice | changes),
        )
        done = cut(
            *(dense, found, train_rows, selection, framing, settings, placement), lambda _: None
        )
        return importance_of(criterion, dense, found), done

    return run


@pytest.mark.parametrize("method", METHODS)
def test_measuring_cutting_and_repairing(compressed, gpu, method):
    (scores, ours), (their_scores, theirs) = (
        compressed(placement, **METHODS[method]) for placement in (CPU, gpu)
    )
    for one, other in zip(
        (*scores.heads, *scores.ffn_units),
        (*their_scores.heads, *their_scores.ffn_units),
        strict=True,
    ):
        torch.testing.assert_close(other.double(), one.double(), rtol=1e-3, atol=1e-5)
    fits, their_fits = (done.documents[CUT]["fits"] for done in (ours, theirs))
    assert [fit["repaired"] for fit in their_fits] == [fit["repaired"] for fit in fits]
    assert [f["after"] for f in their_fits] == pytest.approx(
        [f["after"] for f in fits], rel=1e-2, abs=1e-6
    )
    assert what_stayed(theirs) == what_stayed(ours)
    for name, tensor in ours.model.state_dict().items():
        torch.testing.assert_close(theirs.model.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)


def test_logits_of_rows(sized, rows, framing, on_gpu):
    model, data = sized((4, 4), (8, 8)), rows(50)
    here = predict_logits(model, data, 8, 16, framing, CPU)
    there = predict_logits(placed(model, "cuda"), data, 8, 16, framing, on_gpu)
    error = 1e-5 if on_gpu.precision == "fp32" else 5e-2
    assert there == pytest.approx(here, rel=error, abs=error)


def test_latency_is_that_of_the_work_and_not_of_asking_for_it(sized, gpu):
    model = placed(sized((4, 4), (8, 8)), "cuda").eval()
    model.register_forward_pre_hook(lambda *_: torch.cuda._sleep(SLEEP))
    assert measure_side_by_side({"it": model}, 1, 4, 3, 1, 0, gpu)["it"].p50_ms > 50


def test_the_peak_of_a_gpu_is_of_tensors_since_it_was_forgotten():
    held = torch.zeros(2**20, device="cuda")
    forget_peak("cuda")
    before = peak_cuda_mib("cuda")
    torch.zeros(16 * 2**20, device="cuda")
    assert peak_cuda_mib("cuda") == before + 64
    forget_peak("cuda")
    assert peak_cuda_mib("cuda") == before >= held.nbytes / 2**20


def test_a_peak_can_be_forgotten_before_anything_is_computed():
    code = (
        "from rosita_core.measuring.memory import forget_peak, peak_cuda_mib\n"
        "forget_peak('cuda'); print(peak_cuda_mib('cuda'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0.0\n", done.stderr
