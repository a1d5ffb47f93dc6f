"""Every setting, said once: title, what it does, range, typical value, risk.

The page's form, the command line, the HTTP API, validation and the documentation are made from these fields.
Configs are frozen, refuse unknown keys and refuse NaN and infinity.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sdplay.errors import ConfigError

Level = Literal["basic", "expert", "hidden"]
ConfigT = TypeVar("ConfigT", bound="Config")

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]


def setting(
    default: Any,  # noqa: ANN401  a field's default has the field's type
    title: str,
    what: str,
    *,
    level: Level = "expert",
    typical: str = "",
    risk: str = "",
    **bounds: Any,  # noqa: ANN401  ge, le, gt, lt, max_length: pydantic's own
) -> Any:  # noqa: ANN401  pydantic's Field does the same
    """A config field with everything a form needs to explain it."""
    return Field(default, title=title, description=what, json_schema_extra={"level": level, "typical": typical, "risk": risk}, **bounds)


class Config(BaseModel):
    """What every config has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainConfig(Config):
    """What every training method can be told. A method's own config adds to it and fixes `method`."""

    method: str = setting("lora", "Method", "How the base model is taught.", level="hidden")
    dataset: Text = setting("", "Data set", "The id of the data set to learn from.", level="hidden")
    base_model: Text = setting(
        "mini",
        "Base model",
        "What is taught: `mini` (embedded), a Hub id such as owner/name, a folder in diffusers layout, or a .safetensors checkpoint.",
        level="hidden",
    )
    token: Text = setting("", "Trigger word", "The made-up word that will call what was learned.", level="hidden", max_length=60)
    class_word: Text = setting("", "Class", "What kind of thing it is, in one word: dog, fox, vase.", level="hidden", max_length=60)
    caption_templates: tuple[Text, ...] = setting(
        ("{caption}",), "Training templates", "The text that training sees for a picture.", level="hidden", min_length=1, max_length=20
    )
    sample_prompts: tuple[Text, ...] = setting(
        (), "Sample prompts", "Drawn at step 0 and again as training goes on, always with the same seeds.", level="hidden", max_length=24
    )
    negative_prompt: Text = setting("", "Negative prompt", "What the samples should not show.", level="hidden")

    steps: int = setting(
        300, "Steps", "How often the weights are changed.", level="basic",
        typical="100 to 1500", risk="Too many: every picture looks like the training pictures.", ge=1, le=20_000,
    )  # fmt: skip
    learning_rate: float = setting(
        1e-4, "Learning rate", "How far each step goes.", level="basic",
        typical="1e-4 for Stable Diffusion, 1e-3 for the embedded model",
        risk="Too high: noise and blotches; halve it.", gt=0, le=0.1,
    )  # fmt: skip
    resolution: int | None = setting(
        None, "Size (px)", "Side of the square that training sees; empty: the base model's own.", level="basic",
        typical="512 for SD 1.5", risk="Larger needs memory with the square of the side.", ge=32, le=1536, multiple_of=8,
    )  # fmt: skip
    masked_loss: Literal["off", "mask"] = setting(
        "off", "Masked loss", "mask: learn only what the pictures' masks show white; pictures without one count whole.",
        typical="mask, where a background must not be learned",
    )  # fmt: skip
    unmasked_weight: float = setting(
        0.1, "Weight outside masks", "How much what the masks leave out still counts.", typical="0.1",
        risk="0: anything may grow there.", ge=0, le=1,
    )  # fmt: skip
    bucketing: Literal["off", "on"] = setting(
        "off", "Aspect-ratio buckets", "off: every picture is cut to a square. on: to the nearest of several shapes of equal area.",
        typical="on for photographs of different shapes",
    )  # fmt: skip
    resolutions: tuple[Annotated[int, Field(ge=32, le=1536, multiple_of=8)], ...] = setting(
        (), "Several sizes", "Sides in px; an epoch shows every picture at each. Empty: Size alone.", level="hidden", max_length=4
    )
    batch_size: int = setting(
        4,
        "Batch size",
        "Pictures per step.",
        level="basic",
        typical="1 to 4",
        risk="Larger needs more memory and time per step.",
        ge=1,
        le=64,
    )
    seed: int = setting(
        0, "Seed", "Same settings and same seed give the same result.", level="basic", typical="any whole number", ge=0, le=2**31 - 1
    )
    gradient_accumulation: int = setting(
        1, "Gradient accumulation", "Batches that are added up before a step.", typical="1",
        risk="Each step takes this many times as long.", ge=1, le=64,
    )  # fmt: skip
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "schedule_free"] = setting(
        "adamw", "Optimiser", "adamw8bit (NVIDIA) and adafactor save memory; prodigy finds the rate; schedule_free needs no schedule.",
        typical="adamw", risk="lion wants a third to a tenth of AdamW's learning rate.",
    )  # fmt: skip
    lr_schedule: Literal["constant", "cosine", "linear", "cosine_with_restarts", "polynomial"] = setting(
        "cosine", "Learning-rate schedule", "How the learning rate goes down over the run, after the warm-up.", typical="cosine"
    )
    lr_cycles: int = setting(3, "Restarts", "How often cosine_with_restarts goes down.", typical="2 to 4", ge=1, le=50)
    lr_power: float = setting(2.0, "Polynomial power", "1: straight down; above: sooner down.", typical="2", gt=0, le=10)
    warmup_steps: int = setting(
        10, "Warm-up steps", "Steps over which the learning rate rises from zero.", typical="0 to 5 % of the steps", ge=0, le=5000
    )
    weight_decay: float = setting(1e-2, "Weight decay", "Pull of the trained weights towards zero.", typical="0.01", ge=0, le=1)
    ema_decay: float | None = setting(
        None, "EMA decay", "Save and draw the running average of the weights, which is smoother than the last step. Empty: off.",
        typical="empty; 0.99 for a few hundred steps, 0.999 for thousands", gt=0, lt=1,
    )  # fmt: skip
    gradient_checkpointing: Literal["off", "on"] = setting(
        "off", "Gradient checkpointing", "Computes parts twice instead of keeping them: about a fifth slower, much less memory.",
        typical="on where memory is short",
    )  # fmt: skip
    max_grad_norm: float = setting(1.0, "Gradient clipping", "Longest gradient a step may take.", typical="1.0", gt=0, le=1000)
    min_snr_gamma: float | None = setting(
        5.0, "Min-SNR gamma", "Caps the weight of nearly clean pictures, so that all noise levels learn equally. Empty: off.",
        typical="5", risk="Below 1 the fine detail learns slowly.", gt=0, le=100,
    )  # fmt: skip
    loss_weighting: Literal["min_snr", "soft_min_snr", "debiased"] = setting(
        "min_snr", "Loss weighting", "How noise levels are weighed: min_snr, the same without its corner, or debiased (no gamma).",
        typical="min_snr",
    )  # fmt: skip
    huber_c: float | None = setting(
        None, "Huber c", "The squared error becomes linear above this size, the more so the noisier; empty: squared throughout.",
        typical="empty; 0.1 if some pictures are damaged or mislabelled", gt=0, le=1,
    )  # fmt: skip
    noise_offset: float = setting(
        0.0, "Noise offset", "Shifts the noise of each picture, so that very dark and very bright ones can be learned.",
        typical="0; 0.03 to 0.05 for dark or bright styles", risk="High: washed-out or murky pictures.", ge=0, le=1,
    )  # fmt: skip
    input_perturbation: float = setting(
        0.0,
        "Input perturbation",
        "Extra noise that the denoiser is not asked to find: training like drawing.",
        typical="0; 0.1",
        ge=0,
        le=1,
    )
    zero_terminal_snr: Literal["off", "on"] = setting(
        "off", "Zero terminal SNR", "The last timestep is noise alone. For bases that predict v only.", typical="off",
        risk="Draw with a scheduler that rescales its betas too.",
    )  # fmt: skip
    timestep_sampling: Literal["base", "uniform", "logit_normal"] = setting(
        "base", "Timestep sampling",
        "base: as the base was trained, evenly except for Stable Diffusion 3. uniform: evenly. logit_normal: the middle more often.",
        typical="base",
    )  # fmt: skip
    logit_mean: float = setting(
        0.0,
        "Logit-normal mean",
        "Above 0: noisier timesteps more often (layout); below 0: cleaner ones (detail).",
        typical="0",
        ge=-3,
        le=3,
    )
    logit_std: float = setting(1.0, "Logit-normal width", "How far from the mean timesteps are drawn.", typical="1", gt=0, le=5)
    caption_dropout: float = setting(
        0.05, "Caption dropout", "Share of steps that see no text, so that guidance keeps working.", typical="0.05 to 0.1", ge=0, le=1
    )
    caption_shuffle: Literal["off", "on"] = setting(
        "off", "Shuffle tags", "Shows the comma-separated parts of a text in another order each time.", typical="on for lists of tags"
    )
    keep_tags: int = setting(1, "Tags kept in front", "How many parts stay first when tags are shuffled.", typical="1", ge=0, le=50)
    validation_share: float = setting(
        0.1, "Held-out share", "Share of the pictures kept out of training to measure over-fitting. Below 8 pictures none are kept out.",
        typical="0.1", ge=0, le=0.5,
    )  # fmt: skip
    validate_every: int = setting(25, "Validate every", "Steps between two validation losses; 0: never.", typical="25", ge=0, le=5000)
    sample_every: int = setting(
        50, "Sample every", "Steps between two rounds of sample pictures; 0: only before and after.", typical="50", ge=0, le=5000
    )
    sample_steps: int = setting(20, "Sample denoising steps", "Denoising steps of a sample picture.", typical="20", ge=1, le=200)
    guidance_scale: float = setting(
        4.0,
        "Sample guidance",
        "How strongly the samples follow their prompt.",
        typical="3 for the embedded model, 7 for Stable Diffusion",
        ge=1,
        le=30,
    )
    sample_seed: int = setting(1, "Sample seed", "The noise that every round of samples starts from.", ge=0, le=2**31 - 1)
    checkpoint_every: int = setting(
        50, "Checkpoint every", "Steps between two checkpoints. A killed run goes on from the last one.", typical="50 to 250", ge=1, le=5000
    )
    mixed_precision: Literal["auto", "off"] = setting(
        "auto", "Mixed precision", "auto: bfloat16 arithmetic on GPUs that have it, float32 elsewhere. Trained weights are float32 always."
    )


class LoraConfig(TrainConfig):
    """Low-rank adapters on the denoiser's attention (Hu et al. 2021, arXiv 2106.09685)."""

    method: Literal["lora"] = setting("lora", "Method", "How the base model is taught.", level="hidden")
    rank: int = setting(
        8,
        "Rank",
        "Size of the adapter: how much it can learn.",
        typical="4 to 16 for up to 30 pictures",
        risk="High ranks memorise.",
        ge=1,
        le=256,
    )
    alpha: int = setting(
        8,
        "Alpha",
        "Strength of the adapter: it is scaled by alpha / rank.",
        typical="the rank",
        risk="Works like a learning rate.",
        gt=0,
        le=512,
    )

    @property
    def effective_learning_rate(self) -> float:
        """learning rate x alpha / rank: what can be compared between ranks."""
        return self.learning_rate * self.alpha / self.rank


class GenerateConfig(Config):
    """How pictures are drawn."""

    steps: int = setting(20, "Denoising steps", "More steps, finer picture, longer wait.", level="basic", typical="20 to 30", ge=1, le=200)
    guidance_scale: float = setting(
        4.0,
        "Guidance",
        "How strongly the picture follows the prompt.",
        level="basic",
        typical="3 for the embedded model, 7 for Stable Diffusion",
        risk="High: harsh colours.",
        ge=1,
        le=30,
    )
    size: int | None = setting(None, "Size (px)", "Side of the square; empty: the base model's own.", ge=32, le=1536, multiple_of=8)
    negative_prompt: Text = setting("", "Negative prompt", "What the picture should not show.", level="basic")


class CompareConfig(Config):
    """A grid: columns (base, a run at a step, an adapter file, each with a strength) by prompts by seeds."""

    base_model: Text = setting("mini", "Base model", "The base model of every column.", level="hidden")
    columns: tuple[Text, ...] = setting(
        ("base",),
        "Columns",
        "base, RUN, RUN@STEP or FILE, each with :STRENGTH if wanted; + mixes several.",
        min_length=1,
        max_length=12,
    )
    prompts: tuple[Text, ...] = setting((), "Prompts", "One row each.", min_length=1, max_length=64)
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = setting(
        (1,), "Seeds", "Every column starts from the same noise.", min_length=1, max_length=16
    )
    drawing: GenerateConfig = Field(default_factory=GenerateConfig, title="Drawing")

    @property
    def num_cells(self) -> int:
        """Pictures in the grid."""
        return len(self.columns) * len(self.prompts) * len(self.seeds)


def parse(config_class: type[ConfigT], values: Mapping[str, object]) -> ConfigT:
    """Check values at the door. Raises ConfigError with one sentence per mistake."""
    try:
        return config_class.model_validate(dict(values))
    except ValidationError as error:
        sentences = [_sentence(config_class, dict(problem)) for problem in error.errors(include_url=False, include_context=True)]
        raise ConfigError(" ".join(sentences), "Correct the value and try again.") from None


def parse_assignment(text: str) -> tuple[str, object]:
    """`key=value` from the command line; the value is read as YAML, so 1e-4, true, null and [a, b] mean what they say."""
    import yaml

    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value.", "Write it like --set steps=300.")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        value = raw
    return key.strip(), _as_number(value)


def _as_number(value: object) -> object:
    """YAML 1.1 reads 1e-4 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _sentence(config_class: type[Config], problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    field = config_class.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    title = f"{field.title} ({key})" if field and field.title else key
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, config_class.model_fields, n=1)
        return f"There is no setting {key!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{title} is missing."
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{title}: {reason.removeprefix('value error, ')}, but it is {_short(problem['input'])}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
