"""What is seen of a mob, at every width, with five members and with thousands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from rich.cells import cell_len

from mob.console.model import Model
from mob.console.picture import Aim, member_line, picture, state_text
from mob.console.rows import Frame, Row
from runtime.messages import Usage
from tests.console.mobs import NOW_S, large, model_of, small, spent
from tests.console.pictures import CASES, FOLDER, HEIGHT, drawn


@pytest.mark.parametrize(("name", "frame", "width"), CASES)
def test_the_picture_is_the_one_that_was_looked_at(
    name: str, frame: Callable[[], Frame], width: int
) -> None:
    assert drawn(frame(), width) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("frame", [small(), large(300)])
def test_it_fits_into_any_terminal(frame: Frame) -> None:
    model = model_of(frame)
    for width in (1, 7, 20, 39, 40, 55, 79, 93, 94, 131, 400):
        for height in (3, 5, 8, 40):
            shown = picture(model, NOW_S, width, height, note="and a note")
            assert len(shown.lines) <= height, (width, height)
            assert all(cell_len(line.text) <= width for line in shown.lines), (width, height)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Row("a", "a", "p", "model", since_s=NOW_S - 41), "model 0:41"),
        (Row("a", "a", "p", "tool", "shell", since_s=NOW_S - 7), "tool shell 0:07"),
        (Row("a", "a", "p", "retrying", "429", NOW_S - 9, NOW_S + 12.4), "retry in 0:12"),
        (Row("a", "a", "p", "restarting", "", NOW_S, NOW_S + 3), "restart in 0:03"),
        (Row("a", "a", "p", "waiting", "shell", since_s=NOW_S - 9), "approve shell? 0:09"),
        (
            Row("a", "a", "p", "waiting", "a_tool_of_some_length", NOW_S - 3723),
            "approve a_tool…? 1:02:03",
        ),
        (
            Row("a", "a", "p", "tool", "a_tool_of_some_length", NOW_S - 1),
            "tool a_tool_of_som… 0:01",
        ),
        (Row("a", "a", "p", "waiting"), "waits for approval"),
        (Row("a", "a", "p", "idle"), "idle"),
        (Row("a", "a", "p", "archived"), "done"),
        (Row("a", "a", "p", "starting", since_s=0.0), "starting"),
        (Row("a", "a", "p", "saving", since_s=NOW_S - 3661), "saving 1:01:01"),
    ],
)
def test_what_a_member_does_and_for_how_long(row: Row, text: str) -> None:
    assert state_text(row, NOW_S) == text


ALL = Aim()


def texts(model: Model, height: int = HEIGHT, aim: Aim = ALL, width: int = 80) -> list[str]:
    return [line.text for line in picture(model, NOW_S, width, height, aim).lines]


def test_those_that_need_an_eye_come_first() -> None:
    shown = [line.split()[1] for line in texts(model_of(large())) if line[:1] in "├└"]
    assert shown[:4] == ["worker-77", "worker-4000", "worker-2500", "worker-50"]


def test_where_there_is_little_room_it_is_for_decisions_and_failures() -> None:
    busy = [
        Row(f"w{n}", f"w{n}", "worker", "model", since_s=NOW_S, usage=spent(10)) for n in range(50)
    ]
    asking = [Row(f"c{n}", f"c{n}", "clerk", "waiting", "pay") for n in range(3)]
    calm = [Row(f"k{n}", f"k{n}", "clerk", "idle") for n in range(9)]
    broken = [Row("f0", "f0", "fixer", "failed"), Row("f1", "f1", "fixer", "idle")]
    frame = attrs.evolve(small(), rows=(*busy, *calm, *asking, *broken))
    rows = {height: texts(model_of(frame), height)[3:] for height in (9, 12, 14, 40)}
    assert [line.split()[1] for line in rows[9]] == ["12", "c0", "c1", "…", "2", "50"]
    shown = [line.split()[1] for line in rows[12]]
    assert shown == ["12", "c0", "c1", "c2", "…", "2", "f0", "…", "50"]
    assert len(rows[14]) == 11
    assert sum(line[:4] == "├─ w" for line in rows[40]) == 27, "no line is left empty"


class Counted(dict[str, Any]):
    """Counts how often somebody reads a row."""

    reads = 0

    def __getitem__(self, key: str) -> Any:
        self.reads += 1
        return super().__getitem__(key)

    def values(self) -> Any:
        raise AssertionError("a picture reads no row that it does not show")


def test_a_picture_of_thousands_reads_the_few_that_it_shows() -> None:
    model = model_of(large())
    model.rows = Counted(model.rows)
    texts(model)
    assert 0 < model.rows.reads < 3 * HEIGHT


def test_profiles_unfold_and_fold() -> None:
    model = model_of(large(100))
    opened = Aim(frozenset({"/worker"}), at=0)
    assert picture(model, NOW_S, 80, HEIGHT, opened).entries == 101
    folded = Aim(folded=frozenset({"/worker"}))
    assert texts(model, aim=folded)[-2:] == [
        "worker 99            1 wait for approval, 1 model, 97 idle      $0.990",
        "lead                 model 0:02                  1.0k          $0.0100",
    ]


def test_whoever_moves_sees_the_line_they_are_at() -> None:
    model = model_of(large(100))
    for at, key in ((0, "/worker"), (1, "worker-77"), (57, "worker-56"), (500, "lead")):
        shown = picture(model, NOW_S, 80, HEIGHT, Aim(frozenset({"/worker"}), at=at))
        assert shown.at == min(at, shown.entries - 1)
        assert shown.key == key
        [line] = [each for each in shown.lines if any("reverse" in s for _, s in each.spans)]
        assert line.key == key


def test_children_fold_with_their_member() -> None:
    model = model_of(small())
    assert any("summary" in line for line in texts(model))
    assert not any("summary" in line for line in texts(model, aim=Aim(folded=frozenset({"lead"}))))


@pytest.mark.parametrize(
    ("find", "names"),
    [
        ("WORKER-40", ["worker-4000", "worker-4050"]),
        ("fail", ["worker-2500"]),
        ("wait", ["worker-77", "worker-4000"]),
        ("nobody", []),
    ],
)
def test_what_is_looked_for_is_found_by_name_and_by_state(find: str, names: list[str]) -> None:
    model = model_of(large())
    shown = texts(model, aim=Aim(find=find), height=40)
    found = [line.split()[0] for line in shown if line.startswith(("worker", "lead"))]
    assert found[: len(names)] == names
    assert names or not found
    assert ("no member's name" in shown[-1]) is not bool(names)


def test_budgets_mail_and_restarts_are_told() -> None:
    wide = texts(model_of(small()), width=120)
    assert "$0.87 left" in wide[0] + wide[1]
    lead = next(line for line in wide if line.startswith("lead"))
    assert "12k tok" in lead
    assert next(line for line in wide if line.startswith("worker-3")).split()[-1] == "1"


def test_more_lines_than_fit_are_counted() -> None:
    frame = small()
    rows = tuple(attrs.evolve(row, profile=f"p{place}") for place, row in enumerate(frame.rows))
    shown = texts(model_of(attrs.evolve(frame, rows=rows)), height=6)
    assert shown[-1] == "… 2 lines not shown"


def test_what_is_asked_for_is_found_as_it_is_written() -> None:
    shown = texts(model_of(small()), aim=Aim(find="approve sh"))
    assert [line.split()[0] for line in shown[3:]] == ["worker-2"]


def test_a_sum_that_has_too_many_digits_is_not_cut() -> None:
    tiny = Usage(4, model_calls=1, priced_calls=1, cost_nano_usd=21_500)
    frame = attrs.evolve(small(), rows=(Row("a", "a", "p", "idle", usage=tiny),))
    assert texts(model_of(frame))[-1].split() == ["a", "p", "idle", "4", "<$0.0001"]


def test_a_member_by_itself_is_told_in_whole_words() -> None:
    row = Row("a", "a", "p", "model", since_s=NOW_S - 1, usage=spent(1200, 3), inputs=2, left="1 h")
    whole = "a  model 0:01  1.2k tokens  $0.0300  2 messages  1 h left"
    assert member_line(row, NOW_S, 80).text == whole
    assert member_line(row, NOW_S, len(whole) - 1).text == whole.removesuffix("  1 h left")
    assert member_line(row, NOW_S, 20).text == "a  model 0:01"
    assert member_line(row, NOW_S, 6).text == "a  mo…"


def test_the_keys_are_told_apart() -> None:
    last = picture(model_of(small()), NOW_S, 80, HEIGHT, note="q quit  / find").lines[-1]
    assert last.text == "q quit  / find"


def test_sums_of_a_profile_stand_apart_from_how_many_do_what() -> None:
    for tokens in (10**6, 10**8):
        rows = [
            Row(f"w{n}", f"w{n}", "p", state, usage=Usage(tokens, model_calls=1))
            for n, state in enumerate(["model"] * 40 + ["idle"] * 40 + ["failed"])
        ]
        frame = attrs.evolve(small(), rows=tuple(rows))
        for width in range(40, 140):
            (line,) = (each for each in texts(model_of(frame), width=width) if each[:3] == "p 8")
            assert "idle" not in line or line.partition("idle")[2][:2] in ("", "  ")
