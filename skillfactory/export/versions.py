"""Which versions of other packages each hand-off was checked with, in one table: READMEs and `skillfactory doctor` read it."""

from collections.abc import Mapping

CHECKED: Mapping[str, str] = {
    "axolotl": "0.16.1",
    "datasets": "5.2.0",
    "huggingface_hub": "2.4.0",
    "llamafactory": "0.9.5",
    "openrlhf": "0.11.2",
    "ray": "2.60.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
    "verl": "0.9.1",
    "vllm": "0.32.0",
}
"""Package → the version that its hand-off was seen to work with (docs/integrations.md)."""

OPEN_INSTRUCT = "e6c3044 of 20 August 2026"
"""The state of open-instruct's repository that its hand-off was checked with; there are no releases."""
