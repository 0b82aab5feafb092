"""What must hold of the desk, whatever fails: one decorated function each.

`mob sim` asks the first two after every commit, the last at the end of each run.
"""

from mob.simulation import Ledger, invariant


@invariant
def clerks_leave_each_other_alone(ledger: Ledger) -> None:
    names = {member.session_id: member.name for member in ledger.members.values()}
    for each in ledger.inputs.values():
        asked = names.get(each.session_id, "")
        if asked.startswith("clerk"):
            assert not (each.sender or "").startswith("clerk"), f"{each.sender} asked {asked}"


@invariant
def no_question_is_taken_twice(ledger: Ledger) -> None:
    asked = [
        each.text for each in ledger.inputs.values() if (each.key or "").startswith("customer")
    ]
    assert len(asked) == len(set(asked)), asked


@invariant(at="end")
def the_desk_is_staffed(ledger: Ledger) -> None:
    missing = {"lead", "clerk-0", "clerk-1"} - ledger.members.keys() - ledger.retired.keys()
    assert not missing, f"nobody ever was {missing}"
