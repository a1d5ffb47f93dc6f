"""What is looked at before a run gets a folder: the base, the masks, the class, the disk. Each refusal is a sentence."""

from __future__ import annotations

from sdplay import hub
from sdplay.config import PriorConfig, TrainConfig
from sdplay.data import Dataset, DatasetStore
from sdplay.errors import DataError
from sdplay.workspace import Workspace


def check_before_a_run(config: TrainConfig, dataset: Dataset, datasets: DatasetStore, workspace: Workspace) -> None:
    """Raises SdplayError for what could not end well. A base that is still to be downloaded is not looked at."""
    if config.masked_loss == "mask" and not any(example.mask for example in dataset.examples):
        raise no_masks()
    if isinstance(config, PriorConfig) and config.prior == "dataset":
        datasets.open(config.prior_dataset)
    if config.compile == "on":
        from sdplay.compiled import check_compiler
        from sdplay.device import best_device

        check_compiler(best_device().kind)
    if config.base_precision == "bfloat16":
        from sdplay.device import best_device, keeping

        keeping(best_device(), config.base_precision)
    if hub.is_here(config.base_model):
        base = hub.find_base(config.base_model)
        if config.method == "dreambooth":
            _check_disk(base, config, workspace)


def no_masks() -> DataError:
    """Nothing says what is to be learned."""
    return DataError(
        "Masked loss is on, but no picture has a mask.", "Add pictures with transparency or mask files, or set Masked loss to off."
    )


def _check_disk(base: hub.Base, config: TrainConfig, workspace: Workspace) -> None:
    """A full fine-tune writes several times the size of the denoiser."""
    from sdplay.device import require_disk
    from sdplay.plan import disk_needed

    folder = workspace.runs if workspace.runs.is_dir() else workspace.root
    require_disk(folder, disk_needed(base, config).total)
