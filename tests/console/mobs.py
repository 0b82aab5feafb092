"""Mobs as frames: a small one in which everything happens, and one of thousands."""

from __future__ import annotations

from mob.console.model import Model
from mob.console.rows import Frame, Row, Totals
from runtime.messages import Usage

NOW_S = 1000.0


def spent(tokens: int, cents: int | None = None) -> Usage:
    """So many tokens in one call; without `cents` it has no price."""
    if cents is None:
        return Usage(tokens, model_calls=1)
    return Usage(tokens, model_calls=1, cost_nano_usd=cents * 10**7, priced_calls=1)


def small() -> Frame:
    """Five members, each in another state."""
    rows = (
        Row(
            "lead",
            "lead",
            "lead",
            "tool",
            "ask_worker",
            since_s=NOW_S - 7,
            turns=3,
            usage=spent(4100, 12),
            inputs=2,
            left="12k tok",
            words="I ask the others what they have found so far.",
            children=(Row("s1", "summary", "helper", "model", since_s=NOW_S - 3),),
            more=2,
        ),
        Row("worker-0", "worker-0", "worker", "model", since_s=NOW_S - 41, usage=spent(312, 1)),
        Row("worker-1", "worker-1", "worker", "retrying", "429", NOW_S - 3, NOW_S + 12.5),
        Row("worker-2", "worker-2", "worker", "waiting", "shell", inputs=1, usage=spent(90)),
        Row(
            "worker-3", "worker-3", "worker", "idle", restarts=1, words="Nothing in 日本 \x1b[31m."
        ),
    )
    totals = Totals("team", "running", spent(4502, 13), 3, 40, "$0.87")
    return Frame(NOW_S, totals, rows, whole=True)


def large(members: int = 5000) -> Frame:
    """So many members of two profiles: some wait, fail or work, the others are idle."""
    rows = [Row("lead", "lead", "lead", "model", since_s=NOW_S - 2, usage=spent(1000, 1))]
    for number in range(1, members):
        name = f"worker-{number}"
        state, since_s = "idle", None
        if number in (77, 4000):
            state = "waiting"
        elif number == 2500:
            state = "failed"
        elif number % 100 == 50:
            state, since_s = "model", NOW_S - number / 100
        rows.append(Row(name, name, "worker", state, since_s=since_s, usage=spent(100, 1)))
    totals = Totals("swarm", "running", spent(5_000_000, 4), 9, 3000)
    return Frame(NOW_S, totals, tuple(rows), whole=True)


def model_of(*frames: Frame) -> Model:
    """A model that has taken the frames in."""
    model = Model()
    for frame in frames:
        model.apply(frame)
    return model
