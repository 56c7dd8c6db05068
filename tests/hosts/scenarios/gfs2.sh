# Two hosts, one GFS2 mounted by both: host A through alpha, host B through beta, dlm and corosync between them.
# hosts: 2
# seconds at most: 900
login "$HERE"
disk=$(disk 0)
meet ready
start_dlm
meet locks
[ "$HOST" = B ] || check "make GFS2" mkfs.gfs2 -q -O -p lock_dlm -t pair:shared -j 2 -J 16 "$disk"
meet made
check "mount" mount -t gfs2 "$disk" /mnt
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
check "unmount" umount /mnt
meet unmounted
[ "$HOST" = B ] || check "fsck.gfs2" fsck.gfs2 -fn "$disk"
meet end
