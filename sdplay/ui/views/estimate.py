"""Before a run: what it will write, what it needs, what it takes. After it: the estimate beside the outcome."""

from __future__ import annotations

from sdplay.disk import size_text
from sdplay.estimate import Estimate
from sdplay.forecasts import Forecast
from sdplay.ui.views.text import duration, esc, message

DOING = {"planning": "Counting files and memory …", "measuring": "Training a few steps on this device, to see what they cost …"}


def forecast_card(forecast: Forecast | None) -> str:
    """Everything that is known so far."""
    if forecast is None:
        return message("note", "Files and memory are computed; for time and price a few steps are trained and thrown away.")
    rows = [*_planned(forecast), *(_estimated(forecast.estimate) if forecast.estimate else ())]
    lines = "".join(f"<dt>{esc(name)}</dt><dd>{esc(text)}</dd>" for name, text in rows)
    about = f'<p class="sd-why">For {esc(forecast.about)}. After a change, press again.</p>' if lines and forecast.about else ""
    table = f'{about}<dl class="sd-settings">{lines}</dl>' if lines else ""
    busy = message("note", DOING[forecast.doing]) if forecast.doing else ""
    failed = message("warning", forecast.message, forecast.hint) if forecast.message else ""
    return f"{table}{_verdict(forecast)}{busy}{failed}"


def _planned(forecast: Forecast) -> list[tuple[str, str]]:
    plan = forecast.plan
    if plan is None:
        return []
    files = [f"{name} {size_text(num_bytes)}" for name, num_bytes in plan.disk.results.items()]
    parts = {"base": sum(plan.frozen.values()), "trained weights": plan.trained, "optimiser": plan.optimizer, "a step": plan.step}
    spent = ", ".join(f"{name} {size_text(num_bytes)}" for name, num_bytes in parts.items())
    return [
        ("Writes", f"{', '.join(files)}; checkpoints up to {size_text(plan.disk.checkpoints)}"),
        ("Needs", f"about {size_text(plan.most)} of memory at {plan.size} px, batch {plan.batch_size}: {spent}"),
    ]


def _verdict(forecast: Forecast) -> str:
    """Whether it fits the device."""
    if forecast.plan is None or forecast.free_bytes is None:
        return ""
    kind = "good" if forecast.plan.most <= forecast.free_bytes else "error"
    return message(kind, forecast.plan.verdict(forecast.free_bytes), f"({forecast.device})")


def _estimated(estimate: Estimate) -> list[tuple[str, str]]:
    return [(name, text) for name, text in _facts(estimate).items() if text]


def outcome_table(before: Estimate | None, after: Estimate | None) -> str:
    """What a run took, beside what it was estimated to take; nothing before its end."""
    if after is None:
        return ""
    columns = {"Estimate": _facts(before)} if before else {}
    columns["Outcome"] = _facts(after)
    rows = "".join(
        f'<tr><th scope="row">{esc(name)}</th>{"".join(f"<td>{esc(facts[name])}</td>" for facts in columns.values())}</tr>'
        for name, text in columns["Outcome"].items()
        if text
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("What it took", *columns))
    return f'<div class="sd-scroll"><table class="sd-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _facts(estimate: Estimate) -> dict[str, str]:
    price = "" if estimate.usd is None else f"{estimate.usd:.2f} US$ on {estimate.hardware}"
    memory = size_text(estimate.peak_bytes) + " at most" if estimate.peak_bytes else ""
    return {"Time": duration(estimate.seconds), "Memory": memory, "Disk": size_text(estimate.disk_bytes), "Price": price}
