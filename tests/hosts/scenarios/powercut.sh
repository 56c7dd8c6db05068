# A power cut takes both controllers. Hosts that come before either is up again, between the two and after both find
# disks of the right size, and use them without a rescan once the two have met.
# hosts: 1
# seconds at most: 900
LOG_MAY_COMPLAIN=yes # of connections that end with their controller, and of paths that are not ready
start_multipathd
login "$ALPHA" "$BETA"
map=$(map 0 2) || exit 1
size=$(blockdev --getsize64 "$map")
check "make ext4" mkfs.ext4 -q -F "$map"
check "mount" mount "$map" /mnt
head -c 1048576 /dev/urandom >/mnt/kept
sync
sum=$(sha256sum </mnt/kept)

# It came before both went: with README's settings it waits for them.
outside kill alpha
outside kill beta
outside start beta
no_paths() { has_paths "$map" 0; }
until_true 120 no_paths || fail "the lost paths were not noticed"
(echo late >/mnt/late && sync /mnt/late) &
writer=$!

# Between the two: beta is there, has not met alpha, and tells what its LUNs are.
iscsiadm -m node -T "$IQN" -p "$BETA" --logout >/dev/null 2>&1
check "login between the two" iscsiadm -m node -T "$IQN" -p "$BETA" --login
udevadm settle -t 60
between=$(for disk in $(disks 0); do echo "$disk"; done | sed -n '$p')
check "its size is there: $between" test "$(blockdev --getsize64 "$between")" = "$size"
refused "it is not ready yet" ready "$between"

# Alpha too: nobody scans anything again.
outside start alpha
outside healthy
until_true 180 has_paths "$map" 2 || { multipathd show topology >&2; fail "the paths did not become usable"; }
check "the write that waited is there" wait $writer
check "and read" grep -qx late /mnt/late
umount /mnt
check "mount again" mount "$map" /mnt
check "nothing is lost" test "$(sha256sum </mnt/kept)" = "$sum"
umount /mnt
check "fsck" e2fsck -fn "$map"

# After both.
multipath -F
logout
login "$ALPHA" "$BETA"
map=$(map 0 2) || exit 1
check "its size is right" test "$(blockdev --getsize64 "$map")" = "$size"
multipath -F
