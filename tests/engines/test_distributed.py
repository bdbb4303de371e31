"""Two processes on one machine, started by torchrun: the same weights on both, one set of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medresnet3d.losses.center import CenterLoss
from medresnet3d.losses.factory import FEATURE_LOSSES
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
import torch
from medresnet3d.engines import distribute, start_distributed, stop_distributed
from medresnet3d.engines.device import rank, undistributed
from tests.engines.toy import make_trainer, network

torch.set_num_threads(1)
folder, resume = Path(sys.argv[1]), sys.argv[2] == "resume"
start_distributed()
torch.manual_seed(rank())  # the wrapper must bring the weights together
trainer = make_trainer(folder, epochs=3, net=distribute(network(), "cpu"), resume=resume, checkpoint_seconds=0)
if sys.argv[2] == "stop":
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: engine.state.iteration == 3 and sys.exit(9))
trainer.run()
torch.save(undistributed(trainer.network).state_dict(), folder / f"rank{rank()}.pt")
stop_distributed()
"""

# one start of two processes for all losses: importing torch and MONAI takes seconds
FEATURE_LOSS_SCRIPT = """
import sys
from pathlib import Path
import torch
from medresnet3d.engines import distribute, start_distributed, stop_distributed
from medresnet3d.engines.device import rank, undistributed
from medresnet3d.losses import build_loss
from medresnet3d.losses.factory import FEATURE_LOSSES
from medresnet3d.networks import build_classifier
from tests.engines.toy import make_trainer

torch.set_num_threads(1)
start_distributed()
results = {}
for name in FEATURE_LOSSES:
    torch.manual_seed(rank())
    network = distribute(build_classifier("resnet10", width=0.0625, stem_stride=1), "cpu")
    folder = Path(sys.argv[1]) / name
    trainer = make_trainer(folder, epochs=2, net=network, loss=build_loss(name), validate=False, tensorboard=False)
    trainer.run()
    state = undistributed(network).state_dict()
    results |= {f"{name}.network.{key}": value for key, value in state.items() if "running" not in key}
    results |= {f"{name}.loss.{key}": value for key, value in trainer.loss_function.state_dict().items()}

# one update of centres from the halves of a batch in each process
center = build_loss("center")
features = torch.arange(8.0).reshape(4, 2)[2 * rank() : 2 * rank() + 2]
center(features, torch.zeros(2, 2), torch.tensor([0, rank()]))
results["center.update"] = center.centers
torch.save(results, Path(sys.argv[1]) / f"rank{rank()}.pt")
stop_distributed()
"""

STAGED_SCRIPT = """
import sys
from pathlib import Path
import torch
from medresnet3d.engines import distribute, start_distributed, stop_distributed
from medresnet3d.engines.device import rank
from tests.engines.test_staged import run

torch.set_num_threads(1)
start_distributed()
folder = Path(sys.argv[1])
network = run(folder, wrap=lambda net: distribute(net, "cpu"))
again = run(folder, resume=True, wrap=lambda net: distribute(net, "cpu"))
assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
torch.save(network.state_dict(), folder / f"rank{rank()}.pt")
stop_distributed()
"""


def torchrun(folder: Path, how: str, code: str = SCRIPT) -> int:
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(code)
    options = ["--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(script), str(folder), how]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    if how != "stop":
        assert done.returncode == 0, done.stderr[-3000:]
    return done.returncode


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_end_with_the_same_weights_and_one_set_of_files(tmp_path: Path) -> None:
    torchrun(tmp_path, "run")
    first, second = weights(tmp_path)
    assert equal(first, second)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    # 18 cases, 9 in each process, batches of 4, incomplete ones left out
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "2"], ["2", "4"], ["3", "6"]]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_losses_on_features_train_in_two_processes(tmp_path: Path) -> None:
    """No parameter is waited for in vain, and centres are those of the samples of both processes."""
    torchrun(tmp_path, "run", FEATURE_LOSS_SCRIPT)
    first, second = weights(tmp_path)
    assert first.keys() == second.keys() and equal(first, second)
    assert {name.split(".")[0] for name in first} == FEATURE_LOSSES.keys()
    assert all(torch.isfinite(value).all() for value in first.values())
    assert int(first["a_softmax.loss.step"]) == 4
    one = CenterLoss()
    one(torch.arange(8.0).reshape(4, 2), torch.zeros(2, 2), torch.tensor([0, 0, 0, 1]))
    torch.testing.assert_close(first["center.update"], one.centers)


def test_stages_of_two_processes_end_with_the_same_network(tmp_path: Path) -> None:
    torchrun(tmp_path, "run", STAGED_SCRIPT)
    first, second = weights(tmp_path)
    assert equal(first, second) and float(first["mean"].abs().sum()) > 0
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)["network"]
    assert equal(first, best)


@pytest.mark.slow
def test_the_train_command_works_in_two_processes(tmp_path: Path) -> None:
    bundle, manifest = write_toy_bundle(tmp_path / "toy_cubes"), write_cubes(tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text("from medresnet3d.cli.main import main\n\nmain()\n")
    options = ["--standalone", "--nproc_per_node", "2", str(script)]
    verb = ["train", str(bundle), "--data", str(manifest), "-o", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *verb],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "bundle" / "models" / "model.pt").is_file()


@pytest.mark.slow
def test_two_processes_resume_to_the_same_weights(tmp_path: Path) -> None:
    torchrun(tmp_path / "one", "run")
    assert torchrun(tmp_path / "two", "stop") != 0
    torchrun(tmp_path / "two", "resume")
    assert equal(weights(tmp_path / "one")[0], weights(tmp_path / "two")[0])
    assert equal(*weights(tmp_path / "two"))
