"""What suits the machine."""

import os

_FEW_CORES = 4
_SMALL = 20_000_000  # parameters; measured with 1M: two threads on shared cores are up to ten times slower than one


def threads_for(parameters: int) -> int | None:
    """How many threads torch should use on the CPU for a model of so many parameters; None leaves it to torch.

    A small model on a small machine gets one, unless OMP_NUM_THREADS says otherwise: its kernels are too short to be shared,
    and threads that wait for each other lose most on a busy machine.
    """
    if os.environ.get("OMP_NUM_THREADS") or (os.cpu_count() or 1) > _FEW_CORES or parameters >= _SMALL:
        return None
    return 1
