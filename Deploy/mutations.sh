#!/usr/bin/env bash
# Switches on one planted bug after another (Sources/Raft/PlantedBug.swift) and demands that the rule tests or the simulator notice it.
#
#   Deploy/mutations.sh             every bug through both; writes the table Tests/MutationGate/MUTATIONS.md
#   Deploy/mutations.sh --quick     every bug through the rule tests, and through the simulator only those that pass there; writes nothing
#   Deploy/mutations.sh BUG...      only these, through both; writes nothing
#
#   KONTIKI_GATE_SEEDS=300          seeds that the simulator plays with each bug, from seed 1 on, until it breaks
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_swift

export KONTIKI_PLANTED_BUGS=1 NO_COLOR=1 SWIFT_BACKTRACE=enable=no
export SEEDS=${KONTIKI_GATE_SEEDS:-300} QUICK=""
scratch=.build-planted
table=Tests/MutationGate/MUTATIONS.md
wanted=("$@")
if [ "${1:-}" = --quick ]; then QUICK=1 wanted=(); fi

# Lines "bug|rule|what is broken", from the comments in the source.
catalogue() {
    awk '/^    \/\/\/ R[0-9]+: / { rule = $2; sub(/:$/, "", rule); text = $0; sub(/^[^:]*: /, "", text) }
         /^    case / { print $2 "|" rule "|" text }' Sources/Raft/PlantedBug.swift
}

# The simulator wants optimised code, and the tests do not mind.
echo "building with planted bugs" >&2
swift build -c release --build-tests -Xswiftc -enable-testing --scratch-path "$scratch" >&2
TESTS=$(echo "$PWD/$scratch"/release/*.xctest) GATE="$PWD/$scratch/release/mutation-gate"
results=$(mktemp -d)
export TESTS GATE results
trap 'rm -rf "$results"' EXIT

# Runs a part of RaftTests with a bug, or with "none"; prints the names of the tests that fail.
run_tests() {
    local bug=$1 status=0 planted=()
    shift
    [ "$bug" = none ] || planted=("KONTIKI_PLANTED_BUG=$bug")
    env "${planted[@]}" timeout 120 stdbuf -oL "$TESTS" --testing-library swift-testing --no-parallel "$@" \
        >"$results/$bug.log" 2>&1 || status=$?
    sed -n 's/.* Test "\([^"]*\)".* failed after .*/\1/p' "$results/$bug.log"
    # A trap or a hang ends the test that began last.
    if [ "$status" -gt 1 ]; then
        sed -n 's/.* Test "\([^"]*\)".* started\..*/\1/p' "$results/$bug.log" | tail -1 | sed 's/$/ (stopped)/'
    fi
    rm -f "$results/$bug.log"
    return 0
}

# Leaves "bug|rule|what is broken|tests|simulator" in a file of its own.
try_bug() {
    local bug rule text tests count named simulator="not played"
    IFS='|' read -r bug rule text <<<"$1"
    tests=$(run_tests "$bug" --skip RandomRun)
    count=$(grep -c . <<<"$tests" || true)
    # The one that carries the bug's own rule says most.
    named=$(grep -m1 "^$rule:" <<<"$tests" || head -1 <<<"$tests")
    [ "$count" -le 1 ] || named="$named (and $((count - 1)) more)"
    if [ -z "$QUICK" ] || [ -z "$named" ]; then
        simulator=$(timeout 900 "$GATE" "$bug" 1 "$SEEDS" 2>/dev/null | awk '
            /^seed / { runs++; last = $0; next }
            /^(caught|missed) / { end = $0; exit }
            END { print end != "" ? end : "caught " runs ": stopped in " last }' || true)
    fi
    echo "$bug|$rule|$text|$named|$simulator" >"$results/$bug.result"
    echo "$rule $bug: ${named:-no rule test}; ${simulator%%:*}" >&2
}
export -f run_tests try_bug

echo "without a bug everything must pass" >&2
[ -z "$(run_tests none --skip RandomRun)" ] || die "The tests of RaftTests fail without any bug: mend that first."
[ -n "$QUICK" ] || case $("$GATE" none 1 "$SEEDS" | tail -1) in
missed*) ;;
*) die "The simulator finds something without any bug: mend that first." ;;
esac

# What the table says of tests elsewhere must be so.
grep -o '"[^"|]*"' Tests/MutationGate/elsewhere.md | while read -r name; do
    grep -RqF --include='*.swift' -- "$name" Tests || die "Tests/MutationGate/elsewhere.md names a test that does not exist: $name"
done

catalogue >"$results/catalogue"
for bug in "${wanted[@]}"; do grep -q "^$bug|" "$results/catalogue" || die "There is no bug named $bug."; done
if [ ${#wanted[@]} -gt 0 ]; then
    printf '^%s|\n' "${wanted[@]}" >"$results/wanted"
    grep -f "$results/wanted" "$results/catalogue" >"$results/some"
    mv "$results/some" "$results/catalogue"
fi
tr '\n' '\0' <"$results/catalogue" | xargs -0 -n 1 -P "$(nproc)" bash -c 'try_bug "$1"' try_bug

escaped=0 both=0 simulated=0 total=0
rows=""
while IFS='|' read -r bug _; do
    IFS='|' read -r bug rule text tests simulator <"$results/$bug.result"
    total=$((total + 1))
    seeds="—" broke=""
    if [[ $simulator == caught* ]]; then
        simulated=$((simulated + 1))
        seeds=${simulator#caught } seeds=${seeds%%:*} broke=${simulator#*: }
        [ -z "$tests" ] || both=$((both + 1))
    elif [ -z "$tests" ]; then
        escaped=$((escaped + 1))
        echo "NOT CAUGHT: $rule $bug: $text" >&2
    fi
    rows+="| $rule | \`$bug\` | $text | ${tests:-—} | $seeds | $broke |"$'\n'
done <"$results/catalogue"

if [ -z "$QUICK" ] && [ ${#wanted[@]} -eq 0 ]; then
    {
        echo "# What notices a broken rule"
        echo
        echo "Written by \`Deploy/mutations.sh\`: each bug of \`Sources/Raft/PlantedBug.swift\`, switched on alone. The rules are the places where"
        echo "real implementations of Raft went wrong; several bugs break one rule in several ways. The simulator plays seeds 1 to $SEEDS, as"
        echo "\`kontiki simulate\` does, until one run breaks."
        echo
        echo "**$total bugs, $((total - escaped)) caught**; $simulated by the simulator, $both of them by a test of its rule as well."
        echo
        echo "| rule | bug | what is broken | caught by the rule test | seeds until the simulator breaks | with |"
        echo "|---|---|---|---|---|---|"
        printf '%s' "$rows"
        echo
        cat Tests/MutationGate/elsewhere.md
    } >"$table"
    echo "written: $table" >&2
fi
echo "$total bugs, $escaped not caught; $simulated by the simulator, $both of them by both"
[ "$escaped" -eq 0 ]
