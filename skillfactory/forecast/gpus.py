"""GPUs by name, with the figures of their makers' data sheets."""

from collections.abc import Mapping
from dataclasses import dataclass

from skillfactory.errors import unknown


@dataclass(frozen=True, slots=True)
class Gpu:
    """Peak figures; the memory is what is left of the printed one once the driver has had its share, as nvidia-smi tells."""

    title: str
    memory: float  # GiB
    tflops: float  # bfloat16, dense, float32 accumulation; data sheets often print twice that, for sparse matrices
    bandwidth: float  # GB/s of its memory


GPUS: Mapping[str, Gpu] = {
    "h100": Gpu("H100 SXM", 79.6, 989, 3350),
    "h200": Gpu("H200", 140.4, 989, 4800),
    "a100-80": Gpu("A100 SXM 80 GB", 80.0, 312, 2039),
    "a100-40": Gpu("A100 SXM 40 GB", 40.0, 312, 1555),
    "l40s": Gpu("L40S", 45.0, 362, 864),
    "a10": Gpu("A10", 22.5, 125, 600),
    "l4": Gpu("L4", 22.5, 121, 300),
    "4090": Gpu("RTX 4090", 24.0, 165, 1008),
    "3090": Gpu("RTX 3090", 24.0, 71, 936),
}


def gpu(name: str) -> Gpu:
    """The GPU of that name."""
    if name.lower() not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[name.lower()]
