# Two hosts, one OCFS2 mounted by both: host A through alpha, host B through beta.
# hosts: 2
# seconds at most: 900
login "$HERE"
disk=$(disk 0)
start_ocfs2
meet ready
if [ "$HOST" = A ]; then
    check "make OCFS2" mkfs.ocfs2 -q -F --cluster-stack=o2cb --cluster-name=pair -N 2 -L shared "$disk" </dev/null
fi
meet made
check "mount" mount -t ocfs2 "$disk" /mnt
meet mounted
mkdir "/mnt/$HOST"
for number in $(seq 20); do
    head -c $((number * 3001)) /dev/urandom >"/mnt/$HOST/$number"
    flock /mnt/lock bash -c "echo $HOST $number >>/mnt/both"
done
(cd "/mnt/$HOST" && sha256sum -- *) >"/shared/sums.$HOST"
sync
meet written
check "the other host's files" bash -c "cd /mnt/$OTHER && sha256sum --quiet -c /shared/sums.$OTHER"
check "every line of both" test "$(sort -u /mnt/both | wc -l)" = 40
meet compared
check "remove the other host's files" rm -r "/mnt/$OTHER"
meet removed
for turn in 1 2 3 4 5; do
    flock /mnt/lock bash -c 'count=$(cat /mnt/count 2>/dev/null || echo 0); echo $((count + 1)) >/mnt/count'
done
meet counted
check "locks exclude each other" test "$(cat /mnt/count)" = 10
meet checked
check "unmount" umount /mnt
meet unmounted
[ "$HOST" = B ] || check "fsck.ocfs2" fsck.ocfs2 -fn "$disk"
meet end
