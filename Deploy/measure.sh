#!/usr/bin/env bash
# Measures a three-node cluster on this machine with h2load, and an etcd cluster beside it where etcd is installed.
#
#   Deploy/measure.sh                   requests a second: put, strong get and stale get at 1, 64 and 256 connections
#   RUNS=5 Deploy/measure.sh            more runs; the median is printed
#   KEYS=1000000 Deploy/measure.sh      also loads so many keys of 256 bytes; prints memory, and the time from a restart to ready
#   SNAPSHOT=1000000 Deploy/measure.sh  also prints how long puts take in a node of so many keys, while a snapshot is taken and while none is
#   REPLAY=100000 Deploy/measure.sh     also kills a node with so many entries in its log that its durable state lacks; prints the time to ready
#
# Needs h2load (nghttp2-client) and .build/release/kontiki (Deploy/run.sh builds it). Everything else is made in a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_program
need_h2load

runs=${RUNS:-3} work=$(mktemp -d)
trap 'stop_processes; rm -rf "$work"' EXIT
head -c 192 /dev/urandom | base64 -w0 >"$work/value"                       # 256 bytes
printf '\x00\x00\x00\x01\x0e\x0a\x09bench/key\x12\x80\x02' >"$work/put"    # a gRPC frame: etcdserverpb.PutRequest
cat "$work/value" >>"$work/put"
printf '\x00\x00\x00\x00\x0b\x0a\x09bench/key' >"$work/range"              # etcdserverpb.RangeRequest
printf '\x00\x00\x00\x00\x0d\x0a\x09bench/key\x38\x01' >"$work/serializable"

start_kontiki() { start_node "$1" "1800$1" "1900$1" "${@:2}"; }

start_etcd() {
    local cluster=n1=http://localhost:12381,n2=http://localhost:12382,n3=http://localhost:12383
    for n in 1 2 3; do
        etcd --name "n$n" --data-dir "$work/etcd$n" --listen-client-urls "http://localhost:1238$((n + 3))" \
            --advertise-client-urls "http://localhost:1238$((n + 3))" --listen-peer-urls "http://localhost:1238$n" \
            --initial-advertise-peer-urls "http://localhost:1238$n" --initial-cluster "$cluster" --log-level error \
            >"$work/etcd$n.log" 2>&1 &
        processes+=("$!")
    done
    # Requests go to the leader, as they do with ours.
    etcd_port=
    until [ -n "$etcd_port" ]; do
        for n in 4 5 6; do
            if curl -s "http://localhost:1238$n/metrics" | grep '^etcd_server_is_leader 1' >/dev/null; then etcd_port=1238$n; fi
        done
        sleep 0.2
    done
}

# rate CONNECTIONS REQUESTS ARGS…: requests a second
rate() { h2load -n "$2" -c "$1" -t1 "${@:3}" 2>&1 | awk '/^finished in/ {print int($4)}'; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

start_kontiki 1 --bootstrap
start_kontiki 2 --join localhost:19001
start_kontiki 3 --join localhost:19001
has_etcd=
if command -v etcd >/dev/null; then
    start_etcd
    has_etcd=1
fi
url=http://127.0.0.1:18001/kv/bench/key
ours() { rate "$1" "$2" --h1 "${@:3}"; }
theirs() {
    rate "$1" "$2" -m 1 -H 'content-type: application/grpc' -H 'te: trailers' -d "$work/$3" "http://127.0.0.1:$etcd_port/etcdserverpb.KV/$4"
}
printf '%-12s %11s %12s %12s\n' work connections kontiki/s etcd/s
for connections in 1 64 256; do
    for kind in put strong stale; do
        case $kind in
            put) n=20000 ours_args=(-d "$work/value" -H ':method: PUT' "$url") theirs_args=(put Put) ;;
            strong) n=40000 ours_args=("$url") theirs_args=(range Range) ;;
            stale) n=60000 ours_args=("$url?consistency=stale") theirs_args=(serializable Range) ;;
        esac
        [ "$connections" -gt 1 ] || n=$((n / 10))
        : >"$work/a"
        : >"$work/b"
        for _ in $(seq "$runs"); do # in turn, so that both see the same machine
            ours "$connections" "$n" "${ours_args[@]}" >>"$work/a"
            [ -z "$has_etcd" ] || theirs "$connections" $((n / 2)) "${theirs_args[@]}" >>"$work/b"
        done
        printf '%-12s %11s %12s %12s\n' "$kind" "$connections" "$(median <"$work/a")" "$([ -z "$has_etcd" ] || median <"$work/b")"
    done
done

if [ -n "${KEYS:-}" ]; then
    value=$(cat "$work/value")
    seq "$KEYS" | awk -v value="$value" '{printf "load/%09d\t%s\n", $1, value}' |
        "$program" import - --endpoint http://localhost:18001 >"$work/import.log" 2>&1 || die "$(tail -3 "$work/import.log")"
    awk '/^Rss(Anon|File)|^VmRSS/ {printf "memory with '"$KEYS"' keys, a follower: %s %d MB\n", $1, $2 / 1024}' "/proc/$node/status"
    for how in TERM KILL; do
        kill -"$how" "$node"
        wait "$node" 2>/dev/null || true
        begin=$(date +%s%N)
        start_kontiki 3
        echo "restart to ready after SIG$how with $KEYS keys: $((($(date +%s%N) - begin) / 1000000)) ms"
    done
fi

if [ -n "${REPLAY:-}" ]; then
    value=$(cat "$work/value")
    start_kontiki 4 --bootstrap --memtable-bytes 4g --snapshot-log-bytes 4g
    seq "$REPLAY" | awk -v value="$value" '{printf "replay/%09d\t%s\n", $1, value}' |
        "$program" import - --endpoint http://localhost:18004 >"$work/import.log" 2>&1 || die "$(tail -3 "$work/import.log")"
    behind=$(curl -s http://localhost:18004/status |
        sed -E 's/.*"applied_index": ?([0-9]+).*"durable_index": ?([0-9]+).*/\1 \2/' | awk '{print $1 - $2}')
    kill -KILL "$node"
    wait "$node" 2>/dev/null || true
    begin=$(date +%s%N)
    start_kontiki 4
    echo "restart to ready after SIGKILL with $behind entries of 256 bytes to apply again: $((($(date +%s%N) - begin) / 1000000)) ms"
fi

if [ -n "${SNAPSHOT:-}" ]; then
    value=$(cat "$work/value")
    start_kontiki 5 --bootstrap
    seq "$SNAPSHOT" | awk -v value="$value" '{printf "load/%09d\t%s\n", $1, value}' |
        "$program" import - --endpoint http://localhost:18005 >"$work/import.log" 2>&1 || die "$(tail -3 "$work/import.log")"
    taken() { curl -s http://localhost:18005/metrics | awk '/^kontiki_snapshot_seconds_count/ {print $2}'; }
    # latencies FILE: the median, the 99th and the 99.9th percentile of h2load's log, in milliseconds
    latencies() {
        cut -f3 "$1" | sort -n |
            awk '{v[NR] = $1} END {printf "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms (%d puts)", v[int(NR/2)]/1000, v[int(NR*0.99)]/1000, v[int(NR*0.999)]/1000, NR}'
    }
    for round in $(seq "$runs"); do
        for kind in none one; do
            kill "$node"
            wait "$node" 2>/dev/null || true
            # Without its snapshots a node takes one as soon as it runs.
            [ "$kind" = none ] || rm -f "$work"/node5/snapshots/*
            start_kontiki 5
            : >"$work/times"
            for _ in $(seq 100); do
                rm -f "$work/part"
                h2load --h1 -n 4000 -c 64 -t1 --log-file="$work/part" -d "$work/value" -H ':method: PUT' \
                    http://127.0.0.1:18005/kv/bench/key >/dev/null 2>&1
                if [ "$kind" = none ]; then
                    cat "$work/part" >>"$work/times"
                    [ "$(wc -l <"$work/times")" -lt 40000 ] || break
                elif [ "$(taken)" != 0 ]; then
                    break
                else
                    cat "$work/part" >>"$work/times"
                fi
            done
            echo "puts of 64 connections, $kind snapshot being taken, run $round: $(latencies "$work/times")"
        done
    done
fi
