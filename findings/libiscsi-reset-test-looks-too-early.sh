#!/bin/sh
# libiscsi 1.19.0 (Debian 12), iscsi-test-cu: the test iSCSITMF.LUNResetSimpleAsync passes against no target when it
# runs alone. It looks at a flag that only the answer to its LOGICAL UNIT RESET sets, directly after it has queued that
# function and before anything was sent; run behind a test that has left the flag set it passes, whatever the target
# does. Whoever judges a target by this suite has to leave it out or look elsewhere; the authors repaired it later.
#
# Seen with libiscsi-bin 1.19.0-3 against tgt 1:1.0.85-1+deb12u1: 1 of 1 failed.
#
# Exits with 1 if the test passes. Wants root for the packages, and nothing at 127.0.0.1:23998.
set -eu
work=$(mktemp -d)
pid=
end() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
cd "$work"
# The packages are unpacked here, not installed.
apt-get download -q "libiscsi-bin=1.19.0-3*" "libiscsi7=1.19.0-3*" "tgt=1:1.0.85-1*" "libcunit1" >/dev/null
for package in *.deb; do dpkg-deb -x "$package" root; done
export LD_LIBRARY_PATH="$work/root/usr/lib/$(uname -m)-linux-gnu"
export TGT_IPC_SOCKET="$work/ipc" PATH="$work/root/usr/bin:$work/root/usr/sbin:$PATH"
truncate -s 64M disk
tgtd -f -C 98 --iscsi portal=127.0.0.1:23998 >tgt.log 2>&1 &
pid=$!
iqn=iqn.2026-11.com.example:finding
for _ in $(seq 50); do
    tgtadm -C 98 --lld iscsi --mode target --op new --tid 1 --targetname $iqn 2>/dev/null && break
    sleep 0.1
done
tgtadm -C 98 --lld iscsi --mode logicalunit --op new --tid 1 --lun 1 --backing-store "$work/disk"
tgtadm -C 98 --lld iscsi --mode target --op bind --tid 1 -I ALL
iscsi-test-cu --dataloss --test ALL.iSCSITMF.LUNResetSimpleAsync "iscsi://127.0.0.1:23998/$iqn/1" >log 2>&1 || true
sed -n '/Run Summary/,$p; /FAILURE\|FAILED/p' log
dpkg-deb -f libiscsi-bin*.deb Package Version
if grep -Eq 'tests +1 +1 +0 +1' log; then
    echo "as found: it fails against tgt"
else
    echo "CHANGED: it does not fail as it did" >&2
    exit 1
fi
