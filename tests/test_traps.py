"""Mistakes that trainers of the field have made. Each has tests here that would catch it: `@pytest.mark.trap(number)`.

`python -m tests.test_traps` prints which.
"""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
TRAPS = {
    1: "cached latents read by the loader's position, so captions belong to other pictures",
    2: "texts tokenised without begin and end",
    3: "settings of the text that reach the subject's prompt and not the class's",
    4: "adapters in the base's bfloat16, in which small steps vanish",
    5: "float16 gradients that cannot be unscaled",
    6: "min-SNR for v-prediction with the wrong denominator, and NaN at zero SNR",
    7: "min-SNR weights of one half of a batch on the errors of the other",
    8: "SDXL's autoencoder in float16: latents that are not finite",
    9: "latents without their base's own shift and scale",
    10: "SDXL told sizes and crops that are not the picture's",
    11: "crops frozen or not the ones that are told",
    12: "alpha lost or written as the rank",
    13: "DoRA's magnitude under a name that other programs do not read",
    14: "the text encoder's prefix of another family",
    15: "keys that change with transformers' names",
    16: "files that load without a word and do nothing",
    17: "table rows of other words moved by weight decay and momentum",
    18: "vectors that grow, or are still brought to a length when they are frozen",
    19: "a fine-tune that trains nothing, gradient clipping unused, captions in small letters",
    20: "a trigger word that is part of other words, or there already",
    21: "a pivot found by comparing epochs, and lost by a resume",
    22: "Prodigy with rates that differ between groups",
    23: "embeddings of class prompts repeated in the wrong order",
    24: "a resume that reads the data again from the start or draws other noise",
    25: "schedules that count micro-batches",
    26: "photos lying on their side",
    27: "masks that shrink the loss, lose thin parts, or are not seen to be used",
    28: "gradient checkpointing with frozen inputs: adapters without gradients",
    29: "Stable Diffusion 3: the loss times sigma squared, T5 cut to 77 tokens, sigmas in bfloat16",
    30: "drivers that lend main memory, so that a run crawls and does not fail",
    31: "settings of one picture on another, one timestep for a batch, a first accumulation of another size",
}


def covered() -> dict[int, list[str]]:
    """By number, the tests that are marked with it, as pytest names them."""
    found: dict[int, list[str]] = {number: [] for number in TRAPS}
    for path in sorted(TESTS.rglob("test_*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for number in _numbers(function):
                    found[number].append(f"{path.relative_to(TESTS)}::{function.name}")
    return found


def _numbers(function: ast.FunctionDef) -> list[int]:
    marks = [mark for mark in function.decorator_list if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.trap"]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]


def test_every_trap_has_a_test() -> None:
    assert [f"{number}: {TRAPS[number]}" for number, tests in covered().items() if not tests] == []


if __name__ == "__main__":
    for number, tests in covered().items():
        print(f"{number:2} {TRAPS[number]}", *tests, sep="\n       ")
