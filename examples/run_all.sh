#!/usr/bin/env bash
# Runs every example and checks what they leave in the store.
#
# Needs no key. research runs with the embedded model too if the extra `local` is installed. Every
# example runs even if an earlier one failed; the exit code is 0 only if all went well.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()

# As in the README: what is shown there is what is tested here.
question="How can a sailor see a lighthouse from far away and know which one it is?"

example() { # example NAME COMMAND...
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        printf '== %s: passed in %d s\n' "$name" $((SECONDS - started))
    else
        failed+=("$name")
        printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - started))
    fi
}

hello() { python examples/hello/hello.py; }

swarm() {
    python examples/swarm/swarm.py | tee "$scratch/swarm.answer"
    [[ $(wc -l <"$scratch/swarm.answer") == 3 ]] || { echo "not three findings"; return 1; }
}

self_healing() {
    python examples/self-healing/self_healing.py | tee "$scratch/healed"
    [[ $(grep -c "report - done" "$scratch/healed") == 10 ]] || { echo "not all answered"; return 1; }
}

dynamic() {
    python examples/dynamic/dynamic.py 2>"$scratch/dynamic.said" || return
    cat "$scratch/dynamic.said"
    grep -q "members: lead, tides" "$scratch/dynamic.said"
}

debate() {
    python examples/debate/debate.py | tee "$scratch/debate.answer"
    [[ $(wc -l <"$scratch/debate.answer") == 4 ]] || { echo "not two rounds"; return 1; }
}

record_and_replay() { python examples/record-and-replay/record_and_replay.py; }

structured_output() { python examples/structured-output/structured_output.py; }

what_if() { python examples/what-if/what_if.py; }

research() { # research STATE OPTION...
    local state=$scratch/$1
    shift
    mob run examples/research/mob.toml --state "$state" --prompt "$question" "$@" \
        >"$state.answer" || return
    cat "$state.answer"
    [[ -s $state.answer ]] || { echo "there is no answer"; return 1; }
    mob tree research --state "$state" --json >"$state.tree" || return
    local member
    for member in lead optics towers signals; do
        mob show "research/$member" --state "$state" --json >"$state.$member" || return
    done
    python - "$state" <<'PYTHON'
import json
import sys


def stored(name):
    with open(f"{sys.argv[1]}.{name}") as file:
        return file.read()


def last_answer(member):
    return json.loads(json.loads(stored(member))["messages"][-1]["text"])


with open("examples/research/finding.schema.json") as file:
    schema = json.load(file)
members = {each["name"]: each for each in json.loads(stored("tree"))["members"]}
assert last_answer("lead") == {"answer": stored("answer").strip()}
assert members["lead"]["total"]["input_tokens"] > 0, "no usage"
for name in ("optics", "towers", "signals"):
    finding = last_answer(name)
    print(f"{name}: {finding}")
    assert set(finding) == set(schema["required"]), finding
    assert finding["source"] in schema["properties"]["source"]["enum"], finding
    with open(f"examples/research/corpus/{finding['source']}.txt") as note:
        assert finding["finding"] in note.read(), "the note does not say so"
    [child] = members[name]["children"]
    assert (child["state"], child["turns"], members[name]["turns"]) == ("archived", 1, 1), name
PYTHON
}

budget() {
    local state=$scratch/budget code=0
    mob run examples/budget/mob.toml --state "$state" --prompt "How do bees find their way home?" \
        --display plain >"$state.answer" 2>"$state.said" || code=$?
    cat "$state.said"
    [[ $code == 5 ]] || { echo "exit code $code, not 5"; return 1; }
    [[ ! -s $state.answer ]] || { echo "there is an answer"; return 1; }
    grep -q "the budget of mob 'budget' is used up" "$state.said" || return
    # Raised for good, the same question is answered.
    sed "s/^tokens = .*/tokens = 100000/" examples/budget/mob.toml >"$scratch/raised.toml"
    mob run "$scratch/raised.toml" --state "$state" --prompt "How do bees find their way home?" \
        --display none | tee "$state.answer"
    [[ -s $state.answer ]]
}

hooks() {
    rm -f examples/hooks/audit.log
    mob run examples/hooks/mob.toml --state "$scratch/hooks" --prompt "Read the secrets." \
        --display plain >"$scratch/hooks.answer" 2>"$scratch/hooks.said" || return
    cat "$scratch/hooks.said" "$scratch/hooks.answer" examples/hooks/audit.log
    grep -q "hook guard denied at before_tool" "$scratch/hooks.said" || return
    grep -q "denied by hook 'guard'" "$scratch/hooks.answer" || return
    grep -q "read_file" examples/hooks/audit.log || return
    rm -f examples/hooks/audit.log
}

skills() {
    local state=$scratch/skills
    mob run examples/skills/mob.toml --state "$state" \
        --prompt "Write the release notes of version 2." --display none >"$state.answer" || return
    cat "$state.answer"
    # What only the skill's file says is in the answer: the model has loaded it.
    grep -q "load_skill said: # Release notes" "$state.answer"
}

mcp() {
    local state=$scratch/mcp
    mob run examples/mcp/mob.toml --state "$state" \
        --prompt "Tell me how one of the lighthouses flashes." >"$state.answer" || return
    cat "$state.answer"
    grep -q "lights__character_of said: .* white every .* seconds" "$state.answer"
}

approval() {
    local state=$scratch/approval code=0 key
    local ask=(mob run examples/approval/mob.toml --state "$state" --display plain
        --prompt "Refund 40 for order 1001.")
    rm -f refunds.log
    "${ask[@]}" </dev/null || code=$?
    [[ $code == 6 ]] || { echo "exit code $code, not 6"; return 1; }
    [[ ! -e refunds.log ]] || { echo "paid without approval"; return 1; }
    key=$(mob approvals --state "$state" --json |
        python -c 'import json, sys; print(json.load(sys.stdin)["approvals"][0]["key"])') || return
    mob approve "$key" --state "$state" || return
    "${ask[@]}" </dev/null | tee "$state.answer"
    grep -q "refunded 40" "$state.answer" || return
    [[ $(cat refunds.log) == 40 ]] || { echo "not paid once"; return 1; }
    rm -f refunds.log
}

pipeline() {
    local state=$scratch/pipeline run
    mob flow run examples/pipeline/mob.toml article --dry-run --diagram || return
    mob flow run examples/pipeline/mob.toml article --param topic="the tides" --state "$state" \
        --display none | tee "$state.answer"
    [[ -s $state.answer ]] || { echo "there is no article"; return 1; }
    run=$(mob flow ls --state "$state" --json |
        python -c 'import json, sys; print(json.load(sys.stdin)["runs"][0]["run"])') || return
    mob flow show "$run" --state "$state" | tee "$state.run"
    grep -q "draft-by-star .* failed .*timed out after 1 s" "$state.run" || return
    grep -q "draft-by-writer *succeeded" "$state.run"
}

review_board() {
    local state=$scratch/review-board
    mob flow run examples/review-board/mob.toml review --param change="Drop the cache." \
        --state "$state" --display none --json >"$state.run" || return
    python - "$state.run" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as file:
    run = json.load(file)
print(json.dumps(run["output"]))
assert run["state"] == "succeeded", run
assert len(run["steps"]["vote"]["output"]) == 2, "two votes of three"
assert set(run["output"]) == {"merge", "why"}, run
PYTHON
}

example "hello" hello
example "pipeline" pipeline
example "review-board" review_board
example "approval" approval
example "skills" skills
example "hooks" hooks
if python -c 'import mcp' 2>/dev/null; then
    example "mcp" mcp
else
    printf '\n== mcp: left out, its package is not installed\n'
fi
example "budget" budget
example "swarm" swarm
example "self-healing" self_healing
example "dynamic" dynamic
example "debate" debate
example "record-and-replay" record_and_replay
example "structured-output" structured_output
example "what-if" what_if
example "research with sim:agent" research sim --model all=sim:agent
if python -c 'import xllamacpp' 2>/dev/null; then
    example "research with the embedded model" research local
else
    printf '\n== research with the embedded model: left out, xllamacpp is not installed\n'
fi

example "simulation of a mob file" \
    mob sim run examples/simulation/mob.toml --seeds 0..19 --workers 2
example "simulation of a scenario" \
    mob sim run examples/simulation/scenario.py:customers --seeds 0..19 --faults store,process
if python -c 'import hypothesis, pytest' 2>/dev/null; then
    example "simulation under pytest" python -m pytest -q -p no:cacheprovider \
        --rootdir examples/simulation examples/simulation/test_desk.py
else
    printf '\n== simulation under pytest: left out, pytest or hypothesis is not installed\n'
fi

if ((${#failed[@]})); then
    printf '\nFAILED:%s\n' "$(printf ' [%s]' "${failed[@]}")"
    exit 1
fi
printf '\nall examples passed in %d s\n' "$SECONDS"
