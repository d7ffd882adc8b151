#!/usr/bin/env bash
# Shows the units at work under a real systemd: boots a Debian tree in a container, starts three instances, kills and restarts them.
# Needs root on Debian. It changes nothing outside of its own directory, and removes what it made there but for the fresh tree.
#
#   KONTIKI_TREE=DIR       where the fresh Debian tree is kept for the next run (/var/cache/kontiki-debian when unset)
#   KONTIKI_BINARY=FILE    the program to install; built in release mode when unset
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. Deploy/common.sh

[ "$(id -u)" = 0 ] || die "This needs root: it makes a Debian tree and boots it."
need_packages debootstrap systemd-container liblmdb-dev rsync

if [ -z "${KONTIKI_BINARY:-}" ]; then
    need_swift
    build_release
    KONTIKI_BINARY=$PWD/.build/release/kontiki
fi
[ -x "$KONTIKI_BINARY" ] || die "$KONTIKI_BINARY is not an executable file."

base=${KONTIKI_TREE:-/var/cache/kontiki-debian}
if [ ! -e "$base/complete" ]; then
    echo "making a Debian tree in $base (some minutes)"
    rm -rf "$base/tree"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,liblmdb0,procps,curl bookworm "$base/tree" >"$base/log" ||
        die "debootstrap failed; see $base/log"
    touch "$base/complete"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/kontiki-systemd.XXXXXX")
nspawn=
cleanup() {
    local status=$?
    if [ -n "$nspawn" ]; then
        # The container's systemd takes this for a request to power off; what does not follow is ended.
        kill -TERM "$nspawn" 2>/dev/null || true
        timeout 30 tail --pid="$nspawn" -f /dev/null || kill -KILL "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    [ $status = 0 ] || { echo "--- the end of the container's console"; tail -n 20 "$work/console" 2>/dev/null || true; }
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT

root=$work/root
rsync -a "$base/tree/" "$root/"
install -m 755 "$KONTIKI_BINARY" "$root/usr/local/bin/kontiki"
install -m 644 "Deploy/systemd/kontiki@.service" "$root/etc/systemd/system/"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
mkdir -p "$root/etc/kontiki"
install -m 644 Deploy/systemd/node?.env "$root/etc/kontiki/"

systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --directory "$root" >"$work/console" 2>&1 </dev/null &
nspawn=$!

# The container's process 1 is the only child of systemd-nspawn; commands enter its namespaces.
init=
inside() { nsenter --target "$init" --mount --uts --ipc --net --pid -- env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"; }
try_for() { # SECONDS COMMAND…: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
is_booted() {
    init=$(pgrep -P "$nspawn" | head -n 1)
    [ -n "$init" ] && case $(inside systemctl is-system-running) in running | degraded) true ;; *) false ;; esac
}
step=0
pass() { step=$((step + 1)); echo "PASS $step: $*"; }
fail() {
    echo "FAIL: $*" >&2
    inside journalctl --no-pager -n 40 -u 'kontiki@*' >&2 || true
    exit 1
}
property() { inside systemctl show --property="$2" --value "kontiki@$1"; }
nodes="node1 node2 node3"
endpoints=KONTIKI_ENDPOINTS=localhost:8001,localhost:8002,localhost:8003
kontiki() { inside env "$endpoints" kontiki "$@"; }
voters() { [ "$(kontiki member list | grep -cE ' (leader|voter) ')" = "$1" ]; }
leader() { kontiki status | awk '$1 == "leader" { sub(",", "", $2); print $2 }'; }
serving() { [ "$(property "$1" ActiveState)" = active ] && [ "$(property "$1" StatusText)" = serving ]; }

try_for 60 is_booted || fail "the container does not boot"
pass "a Debian tree with systemd $(inside systemctl --version | awk 'NR == 1 { print $2 }') has booted"

# shellcheck disable=SC2086
inside systemctl start $(printf 'kontiki@%s ' $nodes) || fail "systemctl start"
for node in $nodes; do serving "$node" || fail "$node is not serving: $(property "$node" StatusText)"; done
try_for 30 voters 3 || fail "the three nodes are not all voters"
pass "systemctl start returned when three instances were ready to serve, and they are one cluster"

inside dpkg-query -W -f='packages/${Package}\t${Version}\n' >"$work/packages"
kontiki import - <"$work/packages" || fail "import"
LC_ALL=C sort "$work/packages" >"$work/expected"
same() { # from one node's own state
    inside kontiki export --quiet --endpoint "localhost:800${1#node}" --prefix packages/ - 2>/dev/null >"$work/found"
    cmp -s "$work/expected" "$work/found"
}
for node in $nodes; do same "$node" || fail "$node does not hold what was imported"; done
pass "$(wc -l <"$work/expected") packages are stored, and every node has them"

victim=$(leader)
inside systemctl kill --kill-who=main --signal=KILL "kontiki@$victim"
kontiki put after-kill "$victim" >/dev/null || fail "no write succeeds after the leader was killed"
was_restarted() { [ "$(property "$victim" NRestarts)" = 1 ] && serving "$victim"; }
try_for 30 was_restarted || fail "$victim did not come back: $(property "$victim" ActiveState)"
same "$victim" || fail "$victim came back without its data"
pass "the leader $victim was killed with SIGKILL; writes went on, and systemd brought it back with its data"

for node in $nodes; do
    inside systemctl restart "kontiki@$node" || fail "systemctl restart kontiki@$node"
    serving "$node" || fail "$node is not serving after its restart"
    for other in $nodes; do same "$other" || fail "$other has lost data after $node was restarted"; done
    kontiki put "after-restart/$node" done >/dev/null || fail "no write after $node was restarted"
done
pass "the instances were restarted one after the other; all data is intact on every node"

printf 'KONTIKI_ADDR=localhost:9004\nKONTIKI_HTTP=localhost:8004\n' >"$root/etc/kontiki/node4.env"
inside systemctl start kontiki@node4 2>/dev/null && fail "an instance without data, --bootstrap and --join has started"
[ "$(property node4 ExecMainStatus)" = 78 ] && [ "$(property node4 NRestarts)" = 0 ] ||
    fail "an instance that cannot start: status $(property node4 ExecMainStatus), restarts $(property node4 NRestarts)"
inside journalctl --no-pager -u kontiki@node4 | grep -q -- '--bootstrap' || fail "the journal does not say what is missing"
pass "an instance that is not told how to begin says so, and is not started over and over"

# shellcheck disable=SC2086
inside systemctl stop $(printf 'kontiki@%s ' $nodes)
for node in $nodes; do
    [ "$(property "$node" Result)" = success ] || fail "$node did not stop in good order: $(property "$node" Result)"
done
# shellcheck disable=SC2086
inside systemctl start $(printf 'kontiki@%s ' $nodes) || fail "the second systemctl start"
for node in $nodes; do same "$node" || fail "$node has lost data over a stop of all"; done
pass "all were stopped in good order and started again, with their data"

inside systemd-analyze security --no-pager kontiki@node1 | tail -n 1 | sed 's/[^[:print:]]//g; s/^ *→ *//'
echo "all $step steps passed"
