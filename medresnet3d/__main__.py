"""``python -m medresnet3d``, for instance under ``torchrun -m``."""

from medresnet3d.cli.main import main

main()
