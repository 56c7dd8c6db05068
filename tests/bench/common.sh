# What the benchmarks share; sourced by them, not run. Targets run on processor 0, the load on processor 1.
#
# PAIRS, SECONDS_EACH and SIZE_MIB in the environment change how much is measured. REALTIME=1 (as root) runs targets
# and load before everything else on the machine: for one that others use too.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

pairs=${PAIRS:-7}
seconds=${SECONDS_EACH:-3}
size_mib=${SIZE_MIB:-256}
binaries=${CARGO_TARGET_DIR:-build}/release
name=iqn.2026-11.com.example
first_url=iscsi://127.0.0.1:23260/$name:twinlun
second_url=iscsi://127.0.0.1:23261/$name:twinlun

work=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do
        # tgtd does not listen to SIGTERM while it has targets.
        kill -9 "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

on_processor() {
    processor=$1
    shift
    if [ -n "${REALTIME:-}" ]; then
        exec chrt -f 1 taskset -c "$processor" "$@"
    fi
    exec taskset -c "$processor" "$@"
}

# Starts a target with its output in the log of that name; its process is in $started_pid.
start() {
    log=$work/$1.log
    shift
    (on_processor 0 "$@") >"$log" 2>&1 &
    started_pid=$!
    started+=("$started_pid")
}

load() (
    on_processor 1 "$binaries/load" "$@"
)

build() {
    cargo build --quiet --release --bin twinlun --bin load
}

# Appliance file: two controllers on loopback; the LUNs are appended by `lun`.
appliance() {
    cat >"$work/appliance.toml" <<TOML
[appliance]
iqn = "$name:twinlun"
[[controller]]
name = "alpha"
portals = ["127.0.0.1:23260"]
interlink = "127.0.0.1:23270"
[[controller]]
name = "beta"
portals = ["127.0.0.1:23261"]
interlink = "127.0.0.1:23271"
TOML
}

# lun NUMBER NAME [LINE OF THE FILE …]
lun() {
    printf '[[lun]]\nnumber = %s\nname = "%s"\nmain = "alpha"\n' "$1" "$2" >>"$work/appliance.toml"
    shift 2
    printf '%s\n' "$@" >>"$work/appliance.toml"
}

# Waits until a LUN answers: a load that lasts next to nothing succeeds.
wait_for() {
    for _ in $(seq 150); do
        load "$1" --seconds 0.01 --depth 1 >/dev/null 2>&1 && return 0
        for pid in "${started[@]}"; do
            kill -0 "$pid" 2>/dev/null || break 2
        done
        sleep 0.2
    done
    echo "$1 does not answer:" >&2
    cat "$work"/*.log >&2
    return 1
}

# Writes every block once, by 4 KiB writes, so that all contenders' files lie in the page cache alike.
fill() {
    load "$1" --fill --bytes 4096 >/dev/null
}
