"""Dataset, tools: captions changed many at once, written by a model, and where the finished data set goes."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sdplay.data import Dataset, caption_tools
from sdplay.data.export import push_to_hub, write_folder
from sdplay.data.fixes import captioned
from sdplay.engine import Engine
from sdplay.errors import DataError
from sdplay.picture_jobs import CAPTIONERS
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block
from sdplay.ui.tabs.events import confirmed_delete, quick
from sdplay.ui.views.text import count_of, message


@dataclass(frozen=True)
class Tools:
    """What changes many pictures at once."""

    find: gr.Textbox
    by: gr.Textbox
    as_pattern: gr.Checkbox
    replace: gr.Button
    words: gr.Textbox
    front: gr.Button
    behind: gr.Button
    trigger: gr.Button
    template: gr.Textbox
    only_missing: gr.Checkbox
    fill: gr.Button
    model: gr.Dropdown
    write: gr.Button
    masks: gr.Button
    cancel: gr.Button
    job: gr.HTML
    purge: gr.Button
    delete: gr.Button
    repo: gr.Textbox
    push: gr.Button
    pushed: gr.HTML

    def wire(self, engine: Engine, access: Access, picker: gr.Dropdown, token: gr.Textbox) -> list[Any]:
        """The events of the caption tools. Returns those after which the cards are to be shown anew."""
        changes = (
            (self.replace, replace_words, [picker, self.find, self.by, self.as_pattern]),
            (self.front, functools.partial(add_words, front=True), [picker, self.words]),
            (self.behind, functools.partial(add_words, front=False), [picker, self.words]),
            (self.trigger, insert_trigger, [picker, token]),
            (self.fill, fill_template, [picker, self.template, self.only_missing]),
            (self.purge, purge_left_out, [picker]),
        )
        done = [button.click(friendly(_named(do), engine), inputs, None, **quick()) for button, do, inputs in changes]
        heavy: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "concurrency_id": "intake"}
        self.push.click(friendly(push, engine, access), [picker, self.repo], self.pushed, **heavy)
        self.cancel.click(friendly(cancel_job, engine), picker, None, **quick())
        return done


def create_tools(*, local: bool) -> Tools:
    """Everything under Captions and under Keep and share."""
    with gr.Accordion("Captions: change many at once", open=False, elem_id="dataset-captions"):
        with gr.Row(elem_classes="sd-beside"):
            find = gr.Textbox("", label="Find", elem_id="captions-find", min_width=120)
            by = gr.Textbox("", label="Replace by", elem_id="captions-by", min_width=120)
            as_pattern = gr.Checkbox(False, label="Pattern", info="A regular expression", elem_id="captions-pattern", min_width=120)
            replace = gr.Button("Replace", elem_id="captions-replace", min_width=110)
        with gr.Row(elem_classes="sd-beside"):
            words = gr.Textbox("", label="Words to add", placeholder="a photo of", elem_id="captions-words", min_width=160)
            front = gr.Button("Put in front", elem_id="captions-front", min_width=110)
            behind = gr.Button("Put behind", elem_id="captions-behind", min_width=110)
            trigger = gr.Button("Put the trigger word in front", elem_id="captions-trigger", min_width=110)
        with gr.Row(elem_classes="sd-beside"):
            template = gr.Textbox(
                "{name}", label="Template", info="{name} is the file's name, {caption} the present one",
                elem_id="captions-template", min_width=160,
            )  # fmt: skip
            only_missing = gr.Checkbox(True, label="Only where there is none", elem_id="captions-missing", min_width=140)
            fill = gr.Button("Fill in", elem_id="captions-fill", min_width=110)
        with gr.Row(elem_classes="sd-beside"):
            model = gr.Dropdown(
                [(title, model) for model, title in CAPTIONERS.items()], value=next(iter(CAPTIONERS)), label="Captioning model",
                allow_custom_value=local, elem_id="captions-model", min_width=160,
                info="Downloaded on first use." + (" Or a Hub id or folder of a BLIP or Florence-2." if local else ""),
            )  # fmt: skip
            write = gr.Button("Write captions", elem_id="captions-write", min_width=110)
            masks = gr.Button("Mask the backgrounds", elem_id="captions-masks", min_width=110)
        job = html_block(elem_id="captions-job")
        cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="captions-cancel")
    with gr.Accordion("Keep and share", open=False, elem_id="dataset-share"):
        with gr.Row(elem_classes="sd-beside"):
            repo = gr.Textbox("", label="Push to the Hub as", placeholder="owner/name", elem_id="dataset-repo", visible=local)
            pushing = gr.Button("Push, private", elem_id="dataset-push", min_width=110, visible=local)
        pushed = html_block(elem_id="dataset-pushed")
        with gr.Row(elem_classes="sd-actions"):
            purge = confirmed_delete("Delete what is left out", "dataset-left-out")
            delete = confirmed_delete("Delete this data set", "dataset")
    return Tools(
        find, by, as_pattern, replace, words, front, behind, trigger, template, only_missing, fill, model, write, masks, cancel, job, purge,
        delete, repo, pushing, pushed,
    )  # fmt: skip


def replace_words(engine: Engine, dataset_id: str | None, find: str, by: str, as_pattern: bool) -> None:
    """Find and replace in every caption."""
    opened = opened_dataset(engine, dataset_id)
    tool = caption_tools.replaced_by_pattern if as_pattern else caption_tools.replaced
    _keep(engine, opened, tool(opened.examples, find, by), what=f"Replaced “{find[:30]}” by “{by[:30]}”")


def add_words(engine: Engine, dataset_id: str | None, words: str, *, front: bool) -> None:
    """The same words in front of, or behind, every caption."""
    opened = opened_dataset(engine, dataset_id)
    tool = caption_tools.put_in_front if front else caption_tools.put_behind
    _keep(engine, opened, tool(opened.examples, words), what=f"Put “{words[:30]}” {'in front' if front else 'behind'}")


def insert_trigger(engine: Engine, dataset_id: str | None, token: str) -> None:
    """The trigger word of the Prompts tab into every caption that lacks it."""
    opened = opened_dataset(engine, dataset_id)
    _keep(engine, opened, caption_tools.with_trigger(opened.examples, token), what=f"Put {token} into the captions")


def fill_template(engine: Engine, dataset_id: str | None, template: str, only_missing: bool) -> None:
    """Captions from a template."""
    opened = opened_dataset(engine, dataset_id)
    chosen = [example for example in opened.examples if not (only_missing and example.caption)]
    _keep(engine, opened, caption_tools.filled(chosen, template), what=f"Filled in “{template[:30]}”")


def start_captions(engine: Engine, access: Access, dataset_id: str | None, model: str, only_missing: bool) -> None:
    """Let a model write captions, in the worker."""
    opened = opened_dataset(engine, dataset_id)
    if not access.local and model not in CAPTIONERS:
        raise DataError(f"{model[:80]!r} is not offered here.", "Choose one of the list.")
    engine.picture_jobs.write_captions(opened.id, model, only_missing=only_missing)


def start_masks(engine: Engine, dataset_id: str | None) -> None:
    """Let rembg find the subjects, in the worker."""
    engine.picture_jobs.find_subjects(opened_dataset(engine, dataset_id).id)


def cancel_job(engine: Engine, dataset_id: str | None) -> None:
    """End captioning or masking."""
    engine.picture_jobs.cancel(opened_dataset(engine, dataset_id).id)


def purge_left_out(engine: Engine, dataset_id: str | None) -> None:
    """Delete the copies of what is left out."""
    opened = opened_dataset(engine, dataset_id)
    if not opened.set_aside:
        raise DataError("Nothing is left out.", "Press × on a picture to leave it out.")
    engine.datasets.remove(opened.id, *(example.key for example in opened.set_aside))
    gr.Info(f"{count_of(len(opened.set_aside), 'picture')} deleted. Your own files stay as they are.", duration=4)


def push(engine: Engine, access: Access, dataset_id: str | None, repo: str) -> str:
    """Upload what is trained on as a private data set of the Hub, as the person who is logged in on this computer."""
    from huggingface_hub import get_token

    opened = opened_dataset(engine, dataset_id)
    if not access.local:
        raise DataError("A public server pushes nothing in its owner's name.", "Download the zip and upload it yourself.")
    if repo.count("/") != 1 or not all(repo.strip().split("/")):
        raise DataError(f"{repo[:60]!r} is no name on the Hub.", "Give it as owner/name, for example ada/garden-gnome.")
    with tempfile.TemporaryDirectory(prefix="sdplay-") as folder:
        address = push_to_hub(write_folder(opened, Path(folder)), repo.strip(), token=get_token())
    return message("good", f"Pushed to {address}.", "It is private: open it there to say where the pictures are from, and to share it.")


def opened_dataset(engine: Engine, dataset_id: str | None) -> Dataset:
    """The open data set. Raises DataError when none is."""
    if not dataset_id:
        raise DataError("No data set is open.", "Take a sample, or make one from your pictures.")
    return engine.dataset(dataset_id)


def _keep(engine: Engine, opened: Dataset, captions: Mapping[str, str], *, what: str) -> None:
    if not captions:
        raise DataError("No caption would change.", "Check the words: capitals count.")
    engine.datasets.change(opened.id, captioned(opened.examples, captions), what=what)
    gr.Info(f"{count_of(len(captions), 'caption')} changed. Undo takes it back.", duration=4)


def _named(function: Any) -> Any:  # noqa: ANN401  a function or a partial of one
    """A partial with the name and signature that the error handling and Gradio read."""
    return functools.update_wrapper(function, function.func) if isinstance(function, functools.partial) else function
