"""What training can be told: what every method shares, and the parts that some methods add."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sdplay.config.settings import Config, Template, Text, setting
from sdplay.errors import ConfigError

FrozenWeights = Literal["auto", "float32", "bfloat16", "int8", "nf4"]


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
    caption_templates: tuple[Template, ...] = setting(
        ("{caption}",), "Training templates", "The text that training sees for a picture.", level="hidden", min_length=1, max_length=20
    )
    template_weights: tuple[Annotated[float, Field(gt=0, le=100)], ...] = setting(
        (), "Template weights", "How often each training template is drawn beside the others. Empty: by how many texts it makes.",
        level="hidden", max_length=20,
    )  # fmt: skip
    sample_prompts: tuple[Template, ...] = setting(
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
    inpaint_masks: Literal["auto", "random", "whole"] = setting(
        "auto", "Inpainting masks",
        "What an inpainting base sees hidden. auto: the pictures' own masks where they have some, else random shapes; random: shapes "
        "always; whole: the whole picture always. Other bases see no masks.",
        typical="auto",
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
        typical="empty; 0.99 for a few hundred steps, 0.999 for thousands",
        risk="Needs memory for one more copy of what is trained.", gt=0, lt=1,
    )  # fmt: skip
    gradient_checkpointing: Literal["off", "on"] = setting(
        "off", "Gradient checkpointing", "Computes parts twice instead of keeping them: about a fifth slower, much less memory.",
        typical="on where memory is short",
    )  # fmt: skip
    compile: Literal["off", "on"] = setting(
        "off", "Compile", "Lets torch compile the denoiser's blocks. The first step then takes a minute or more.",
        typical="off; on for runs of an hour on a GPU", risk="On a CPU steps are no faster.",
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
    base_precision: FrozenWeights = setting(
        "auto", "Base kept in",
        "Number format of the frozen weights. auto: bfloat16 on GPUs that have it, float32 elsewhere and where every weight learns. "
        "int8 and nf4 take a half and a quarter of bfloat16's memory, and some time.",
        typical="auto; int8 or nf4 for Stable Diffusion XL and 3 on small cards", risk="nf4: the base draws a little differently.",
    )  # fmt: skip
    mixed_precision: Literal["auto", "off"] = setting(
        "auto", "Mixed precision", "auto: bfloat16 arithmetic on GPUs that have it, float32 elsewhere. Trained weights are float32 always."
    )

    judge: Literal["auto", "base", "clip", "off"] = setting(
        "auto", "Judge of samples",
        "Scores each round of samples, to help choose a checkpoint. auto: CLIP and DINO if they are on this computer, else the base "
        "itself. clip: downloads them (0.7 GB). off: no scores.",
        typical="auto",
    )  # fmt: skip

    @property
    def frozen_weights(self) -> FrozenWeights:
        """In what the base is kept: a full fine-tune starts from its weights as they are on disk."""
        return "float32" if self.base_precision == "auto" and self.method == "dreambooth" else self.base_precision

    def check(self) -> None:
        """What one field alone cannot say. A method's config adds to it. Raises ConfigError."""
        if self.template_weights and len(self.template_weights) != len(self.caption_templates):
            raise ConfigError(
                f"There are {len(self.template_weights)} weights for {len(self.caption_templates)} training templates.",
                "Give each template one, or none.",
            )
        if self.warmup_steps >= self.steps:
            longer = "longer than" if self.warmup_steps > self.steps else "as long as"
            raise ConfigError(
                f"The warm-up ({self.warmup_steps} steps) is {longer} the run ({self.steps}).",
                f"Train for more steps, or set Warm-up steps, under Expert, to {self.steps // 10}.",
            )
        if self.base_precision in ("int8", "nf4") and self.method == "dreambooth":
            raise ConfigError(
                f"Every weight learns in DreamBooth, so none can be kept in {self.base_precision}.",
                "Set Base kept in to auto, or choose LoRA.",
            )
        if self.optimizer == "schedule_free" and self.ema_decay:
            raise ConfigError("Schedule-free AdamW averages the weights already.", "Leave EMA decay empty, or choose another optimiser.")


class PriorConfig(TrainConfig):
    """Keeping what the base knows about the class (Ruiz et al. 2022, arXiv 2208.12242, sec. 3.2)."""

    prior: Literal["none", "prediction", "images", "dataset"] = setting(
        "none", "Keep the class",
        "Also train on the class in general, so that not every dog becomes yours. prediction: what the base itself predicts, no pictures "
        "needed; images: pictures that the base draws first; dataset: your own pictures of the class.",
        typical="prediction for a subject, none for a style",
    )  # fmt: skip
    prior_weight: float = setting(
        1.0, "Class weight", "How much the class counts beside your pictures.", typical="1", risk="High: the subject is learned slowly.",
        gt=0, le=10,
    )  # fmt: skip
    prior_prompt: Text = setting(
        "", "Class prompt", "What the class pictures show; empty: the class word.", typical="a photo of a dog"
    )  # fmt: skip
    prior_images: int = setting(
        50, "Class pictures", "How many pictures the base draws of the class, once; they are kept and used again.", typical="50 to 200",
        risk="Drawing them takes time before the first step.", ge=1, le=1000,
    )  # fmt: skip
    prior_dataset: Text = setting("", "Class data set", "The id of the data set that shows the class, for `dataset`.")

    def check(self) -> None:
        """The class needs a prompt, and pictures where it learns from them. Raises ConfigError."""
        super().check()
        if self.prior != "none" and not (self.prior_prompt or self.class_word):
            raise ConfigError("Keep the class is on, but there is no class.", "Give a class word or a class prompt.")
        if self.prior == "dataset" and not self.prior_dataset:
            raise ConfigError("Keep the class wants a data set, but none is named.", "Give its id as Class data set.")


class TextEncoderConfig(TrainConfig):
    """Teaching the text encoders too."""

    text_encoder_share: float = setting(
        0.0, "Text encoder share", "Share of the steps in which the text encoders learn too; 0: never. They over-fit sooner.",
        typical="0 for a style, 0.3 to 0.5 for a subject", risk="High: other words lose their meaning.", ge=0, le=1,
    )  # fmt: skip
    text_encoder_rate: float = setting(
        0.1, "Text encoder rate", "Factor on the learning rate for the text encoders.", typical="0.05 to 0.5", gt=0, le=10
    )


class AdapterConfig(TrainConfig):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) and their relatives."""

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
    kind: Literal["lora", "dora", "rslora", "loha", "lokr"] = setting(
        "lora", "Kind",
        "How the adapter is built. dora: direction and length apart; rslora: alpha / root of the rank; loha, lokr: products that reach "
        "a higher rank with as many weights.",
        typical="lora; dora at low ranks", risk="loha and lokr are read by fewer programs.",
    )  # fmt: skip
    targets: Literal["attention", "attention+mlp", "attention+mlp+conv"] = setting(
        "attention", "Layers", "Which layers get an adapter.", typical="attention", risk="More layers: larger file, memorises sooner."
    )
    blocks: Text = setting(
        "", "Blocks",
        "Only blocks whose name contains one of these, separated by commas; empty: all. `content` and `style` are B-LoRA's blocks of SDXL.",
        typical="empty", risk="Too few blocks cannot learn a subject.",
    )  # fmt: skip
    lora_plus_ratio: float = setting(
        1.0, "LoRA+ ratio", "How much faster the second matrix learns than the first (Hayou et al. 2024, arXiv 2402.12354); 1: alike.",
        typical="1, or 4 to 16", risk="High: unstable.", ge=1, le=64,
    )  # fmt: skip
    max_norm: float | None = setting(
        None, "Norm cap", "Longest change that the adapter may make to a layer. Empty: no cap.", typical="empty, or 1 for Stable Diffusion",
        risk="Low: it stops learning.", gt=0, le=1000,
    )  # fmt: skip

    def check(self) -> None:
        """LoRA+ is about A and B, a cap needs the weights that the gradients were taken at. Raises ConfigError."""
        super().check()
        if self.optimizer == "schedule_free" and self.max_norm is not None:
            raise ConfigError("Schedule-free AdamW keeps averages that Norm cap does not reach.", "Leave Norm cap empty, or choose adamw.")
        if self.lora_plus_ratio != 1 and self.kind in ("loha", "lokr"):
            raise ConfigError(f"The kind {self.kind} has no second matrix for LoRA+.", "Set the LoRA+ ratio to 1, or choose lora.")

    @property
    def effective_learning_rate(self) -> float:
        """learning rate x alpha / rank (rslora: / root of rank): what can be compared between ranks."""
        return self.learning_rate * self.alpha / (self.rank**0.5 if self.kind == "rslora" else self.rank)


class WordsConfig(TrainConfig):
    """Vectors that the trigger word stands for (Gal et al. 2022, arXiv 2208.01618)."""

    caption_dropout: float = setting(
        0.0, "Caption dropout", "Share of steps that see no text. A word learns nothing from them.", typical="0", ge=0, le=1
    )
    vectors: int = setting(
        4, "Vectors", "How many tokens the trigger word takes in a prompt.", level="basic", typical="1 to 8",
        risk="Many: the rest of the prompt is heard less.", ge=1, le=32,
    )  # fmt: skip
    initial: Text = setting(
        "", "Starts as", "Words that the vectors start from, a token each; the rest starts random. Empty: the class word.", level="basic",
        typical="a few words that describe it", max_length=200,
    )  # fmt: skip
    norm: Literal["none", "std", "median"] = setting(
        "std", "Vector length", "Keeps the vectors as long as the base's own. std: pulls gently; median: exactly.",
        typical="std", risk="none: long vectors drown the prompt.",
    )  # fmt: skip

    def check(self) -> None:
        """The vectors need a word that calls them. Raises ConfigError."""
        super().check()
        if self.optimizer == "schedule_free" and self.norm != "none":
            raise ConfigError(
                "Schedule-free AdamW keeps averages that Vector length does not reach.", "Set Vector length to none, or choose adamw."
            )
        if not self.token:
            raise ConfigError("There is no trigger word to learn.", "Give a made-up word, such as sks-fox.")
