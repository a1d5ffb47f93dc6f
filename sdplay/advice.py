"""Settings that suit a data set and a machine, with the reason for each: the preset "Tell me".

A pure function of a few facts. The rates, ranks and step counts are those that trainers and their users agree on for each
family; what a card holds is taken from `python -m benchmarks.memory`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from sdplay.data import Example

Kind = Literal["subject", "style"]

_STOP_WORDS = """a an the of on in at with and or to from by for is are photo photograph picture image painting drawing background style
white black red green blue yellow orange pink purple grey gray brown small large big close up"""
SAME_WORD = 0.7
"""Share of the captions that must have a word in common for the pictures to be of one thing."""
FEW = 2
"""So few pictures that any weights memorise them."""
OBLONG, MANY_OBLONG = 1.1, 0.3
RATES = {"mini": 1e-3, "sd15": 1e-4, "sd2": 1e-4, "sdxl": 1e-4, "sd3": 1e-4}
WORD_RATES = {"mini": 1e-2}
MEMORY_GB: dict[str, tuple[tuple[float, Mapping[str, object]], ...]] = {
    "sd15": ((4.0, {}), (3.0, {"gradient_checkpointing": "on"})),
    "sd2": ((5.5, {}), (3.5, {"gradient_checkpointing": "on"})),
    "sdxl": (
        (14.0, {}),
        (10.0, {"gradient_checkpointing": "on"}),
        (8.0, {"gradient_checkpointing": "on", "base_precision": "int8"}),
        (7.0, {"gradient_checkpointing": "on", "base_precision": "nf4"}),
    ),
    "sd3": (
        (12.0, {}),
        (8.5, {"gradient_checkpointing": "on"}),
        (6.0, {"gradient_checkpointing": "on", "base_precision": "int8"}),
        (5.0, {"gradient_checkpointing": "on", "base_precision": "nf4"}),
    ),
}
"""By family: GB that a LoRA of rank 8 takes at the base's own size and batch 1, and with which settings, the fastest first."""


@dataclass(frozen=True)
class Facts:
    """What is known of the pictures."""

    count: int
    short_side: int
    """Median of the pictures' shorter sides, px."""
    captions: tuple[str, ...]
    """Of those that have one."""
    oblong: int
    """How many are clearly not square."""
    masks: int

    @staticmethod
    def of(examples: Sequence[Example]) -> Facts:
        """Raises ValueError where there is no picture."""
        if not examples:
            raise ValueError("no pictures")
        aspects = [max(example.width, example.height) / min(example.width, example.height) for example in examples]
        return Facts(
            count=len(examples),
            short_side=int(median(min(example.width, example.height) for example in examples)),
            captions=tuple(example.caption for example in examples if example.caption),
            oblong=sum(aspect > OBLONG for aspect in aspects),
            masks=sum(example.mask is not None for example in examples),
        )


@dataclass(frozen=True)
class Place:
    """What it is to be taught to, and where."""

    family: str
    """A family, or `mini`."""
    size: int
    """The base's own, px."""
    has_gpu: bool
    free_gb: float | None = None
    """Of the GPU; None where that cannot be asked."""
    class_word: str = ""


@dataclass(frozen=True)
class Reason:
    """Why one thing is as it is."""

    about: str
    text: str


@dataclass(frozen=True)
class Advice:
    """Settings, as a preset has them."""

    kind: Kind
    values: Mapping[str, object]
    reasons: tuple[Reason, ...]

    @property
    def prompt_set(self) -> str:
        """The set of templates that goes with it, but for the embedded base, which has its own."""
        return self.kind


def advise(facts: Facts, place: Place) -> Advice:
    """What to choose, and why."""
    kind, why = kind_of(facts, place)
    reasons = [Reason("Subject or style", why)]
    values: dict[str, object] = {"sample_every": 0, "checkpoint_every": 0}
    for choose in (_method, _steps, _rank, _rate, _resolution, _captions, _prior, _masks, _memory):
        chosen, reason = choose(facts, place, kind, values)
        values.update(chosen)
        reasons += [reason] if reason else []
    steps = int(str(values["steps"]))
    values |= {"sample_every": max(1, steps // 4), "checkpoint_every": max(1, steps // 4)}
    values["guidance_scale"] = 3.0 if place.family == "mini" else 7.0 if place.family in ("sd15", "sd2") else 5.0
    return Advice(kind, values, tuple(reasons))


def kind_of(facts: Facts, place: Place) -> tuple[Kind, str]:
    """One thing, or a way of drawing many; by a class that is named, a word that captions share, or how many pictures there are."""
    if place.class_word:
        return "subject", f"A class is named ({place.class_word}), so the pictures are taken for one subject."
    if facts.captions:
        word, share = common_word(facts.captions)
        if word and share >= SAME_WORD and len(facts.captions) > 1:
            return "subject", f"{share:.0%} of the captions speak of “{word}”: one subject."
        return "style", "The captions speak of different things: what they share is a style."
    if facts.count <= 10:
        return "subject", f"{_pictures(facts.count)} without captions: taken for one subject. For a style, describe each picture."
    return "style", f"{_pictures(facts.count)} without captions: too many for one subject, taken for a style."


def common_word(captions: Sequence[str]) -> tuple[str, float]:
    """The word that most captions have, colours and the like left out, and the share of them that have it."""
    counted = Counter(word for caption in captions for word in set(re.findall(r"[a-z]{3,}", caption.lower())) - set(_STOP_WORDS.split()))
    if not counted:
        return "", 0.0
    word, count = max(counted.items(), key=lambda entry: (entry[1], entry[0]))
    return word, count / len(captions)


Chosen = tuple[dict[str, object], "Reason | None"]


def _method(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if facts.count <= FEW:
        text = f"A new word: {_pictures(facts.count)} would be memorised by any weights, a word of 4 vectors cannot."
        return {"method": "textual_inversion", "vectors": 4}, Reason("Method", text)
    if kind == "subject" and not place.class_word and not facts.captions:
        text = "A new word, then LoRA: nothing says what it is, so the word first finds the nearest thing that the base knows."
        return {"method": "pivotal", "pivot": 0.4, "vectors": 4}, Reason("Method", text)
    return {"method": "lora"}, Reason("Method", "LoRA: a file of some MB, and it learns nearly as much as a whole model.")


def _steps(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if place.family == "mini":
        steps, batch = (400, 4) if kind == "style" or values["method"] != "lora" else (300, 4)
        return {"steps": steps, "batch_size": batch}, Reason(
            "Steps", f"{steps} steps of {batch}: what the embedded base was measured with."
        )
    each, least, most = (80, 400, 1600) if kind == "subject" else (60, 600, 2400)
    steps = min(max(facts.count * each, least), most)
    if values["method"] == "pivotal":
        steps = round(1.5 * steps)
    why = f"{steps} steps: about {each} for each of {_pictures(facts.count)}, between {least} and {most}."
    return {"steps": steps, "batch_size": 1, "warmup_steps": min(20, steps // 20)}, Reason("Steps", why)


def _rank(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if values["method"] == "textual_inversion":
        return {}, None
    rank = 4 if facts.count < 6 else 8 if facts.count <= 30 else 16
    if place.family == "mini":
        rank = 8
    layers = "attention+mlp+conv" if place.family == "mini" else "attention+mlp" if kind == "style" and facts.count >= 10 else "attention"
    why = f"Rank {rank} on {layers}: {_pictures(facts.count)} {'hold little to memorise' if rank < 16 else 'hold much to learn'}."
    if kind == "style" and layers != "attention":
        why += " A style needs more than the attention."
    return {"rank": rank, "alpha": rank, "targets": layers}, Reason("Rank", why)


def _rate(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if values["method"] == "textual_inversion":
        rate = WORD_RATES.get(place.family, 5e-3)
        return {"learning_rate": rate}, Reason("Learning rate", f"{rate:g}: a word's vectors need large steps.")
    rate = RATES[place.family]
    more = {"words_rate": 10.0 if place.family == "mini" else 50.0} if values["method"] == "pivotal" else {}
    why = "the embedded base is small and takes large steps" if place.family == "mini" else "the usual rate for a LoRA at alpha = rank"
    return {"learning_rate": rate, **more}, Reason("Learning rate", f"{rate:g}: {why}.")


def _resolution(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    buckets: dict[str, object] = {"bucketing": "on"} if facts.oblong > MANY_OBLONG * facts.count else {}
    shape = f" {facts.oblong} are not square: each is cut to the nearest of several shapes." if buckets else ""
    if facts.short_side >= place.size:
        return buckets, Reason("Size", f"{place.size} px, the base's own; the pictures are large enough ({facts.short_side} px).{shape}")
    size = max(place.size // 2, facts.short_side // 64 * 64, 64)
    if size >= place.size:
        return buckets, Reason("Size", f"{place.size} px, the base's own.{shape}")
    why = f"{size} px: the pictures have {facts.short_side} px, and enlarged to the base's {place.size} they would teach blur.{shape}"
    return {"resolution": size, **buckets}, Reason("Size", why)


def _captions(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if not facts.captions:
        return {}, Reason("Captions", "None: the templates stand for all pictures. Describing each makes the result more flexible.")
    tags = sum(caption.count(",") >= 3 and len(caption.split(",")[0].split()) <= 3 for caption in facts.captions)
    dropout: dict[str, object] = {"caption_dropout": 0.1 if kind == "subject" else 0.05} if values["method"] == "lora" else {}
    if tags > len(facts.captions) / 2:
        why = "Lists of tags: shuffled each time, the first one kept in front."
        return {**dropout, "caption_shuffle": "on", "keep_tags": 1}, Reason("Captions", why)
    return dropout, Reason(
        "Captions", "Used in the templates: what they name stays free, what they do not name goes into the trigger word."
    )


def _prior(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if values["method"] == "textual_inversion":
        return {}, None
    if kind == "subject" and place.class_word and place.family != "mini":
        why = f"prediction: the base's own answers keep other things called {place.class_word} as they are."
        return {"prior": "prediction", "prior_weight": 1.0}, Reason("Keep the class", why)
    why = "off: a style has no class." if kind == "style" else "off: no class is named, or the base is too small to lose it."
    return {"prior": "none"}, Reason("Keep the class", why)


def _masks(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if kind == "subject" and facts.masks > facts.count / 2:
        return {"masked_loss": "mask"}, Reason(
            "Masks", f"{facts.masks} of {_pictures(facts.count)} have a mask: only what it shows is learned."
        )
    return {}, None


def _memory(facts: Facts, place: Place, kind: Kind, values: Mapping[str, object]) -> Chosen:
    if place.family == "mini":
        return {}, Reason("Memory", "The embedded base trains on any computer, in minutes.")
    if not place.has_gpu:
        return {}, Reason("Memory", "There is no GPU: such a base takes hours here. The embedded one (mini) takes minutes.")
    if place.free_gb is None:
        return {}, Reason("Memory", "How much memory is free cannot be asked; if it runs out, turn on gradient checkpointing.")
    options = MEMORY_GB[place.family]
    for needed, settings in options:
        if needed <= place.free_gb:
            how = ", ".join(f"{key} {value}" for key, value in settings.items()) or "nothing has to be saved"
            return dict(settings), Reason("Memory", f"{place.free_gb:.0f} GB are free and about {needed:g} are needed: {how}.")
    needed, settings = options[-1]
    return dict(settings), Reason("Memory", f"Only {place.free_gb:.1f} GB are free; even with all savings about {needed:g} are needed.")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
