# One host, dm-multipath over both controllers: one map, two paths; each controller dies under a stream of writes.
# hosts: 1
# seconds at most: 900
LOG_MAY_COMPLAIN=yes # of connections that end with their controller
start_multipathd
login "$ALPHA" "$BETA"
map=$(map 0 2) || exit 1
multipath -ll
check "make ext4" mkfs.ext4 -q -F "$map"
check "mount" mount "$map" /mnt

# Writes and keeps what was acknowledged, until told to stop.
stream() {
    local block=0 began took worst=0
    while [ ! -e /tmp/enough ]; do
        head -c 65536 /dev/urandom >/tmp/block
        began=$(date +%s%N)
        dd if=/tmp/block of=/mnt/stream bs=64k seek=$block oflag=direct conv=notrunc status=none || return 1
        took=$((($(date +%s%N) - began) / 1000000))
        dd if=/tmp/block of=/tmp/stream bs=64k seek=$block conv=notrunc status=none
        [ $took -le $worst ] || { worst=$took && echo $worst >/tmp/worst; }
        block=$(((block + 1) % 200))
    done
}
lost_a_path() { ! has_paths "$map" 2; }
stream &
writer=$!
until_true 60 test -s /tmp/stream || fail "nothing was written"
for controller in beta alpha; do
    outside kill $controller
    # Without main the sub's path goes too: it does not take over, and the writes wait for main.
    until_true 120 lost_a_path || fail "the lost path was not noticed"
    check "the writer is there without $controller" kill -0 $writer
    outside start $controller
    outside healthy
    until_true 120 has_paths "$map" 2 || fail "the path did not come back"
    check "the writer is there with $controller again" kill -0 $writer
done
touch /tmp/enough
check "no write failed" wait $writer
echo "the longest write took $(cat /tmp/worst) ms"
umount /mnt
mount "$map" /mnt
check "every acknowledged write is there" cmp /mnt/stream /tmp/stream
umount /mnt
check "fsck" e2fsck -fn "$map"
multipath -F
