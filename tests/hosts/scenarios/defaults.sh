# One host on Debian's own settings but for README's /etc/multipath.conf: a LUN has one name, is joined when it is new,
# and I/O goes back to the better way.
# hosts: 1
# seconds at most: 900
LOG_MAY_COMPLAIN=yes # of connections that end with their controller
start_multipathd plain
login "$ALPHA" "$BETA"
map=$(map 0 2) || exit 1

# What each tool calls it.
wwid=$(multipathd show maps raw format '%n %w' | awk -v map="${map##*/}" '$1 == map { print $2 }')
for disk in $(disks 0); do
    check "scsi_id says $wwid" test "$(/lib/udev/scsi_id --whitelisted --device="$disk")" = "$wwid"
    check "the kernel says so" test "3$(sed 's/^naa\.//' "/sys/block/${disk##*/}/device/wwid")" = "$wwid"
    udevadm info --query=property --name="$disk" >/tmp/properties
    check "udev says so" grep -qx "ID_SERIAL=$wwid" /tmp/properties
    if [ -e /lib/udev/rules.d/55-scsi-sg3_id.rules ] || [ -e /usr/lib/udev/rules.d/55-scsi-sg3_id.rules ]; then
        check "by sg3_utils' rules" grep -q '^SCSI_IDENT_LUN_NAA_LOCAL=' /tmp/properties
    fi
    check "no second name" test -z "$(find /dev/disk/by-id -name 'scsi-1*')"
done
outside status
check "status says so" grep -q "\"wwid\": *\"$wwid\"" /shared/status

# mkfs.xfs sees no stripes of a RAID.
mkfs.xfs -q -f "$map" || fail "mkfs.xfs"
check "no stripes" sh -c "xfs_db -r -c 'sb 0' -c 'p unit width' $map | grep -c ' = 0' | grep -qx 2"

# I/O goes through LUN 0's main, alpha, and returns to it when it is back.
writes_of() { awk '{ print $5 }' "/sys/block/${1##*/}/stat"; }
path_to() { # PORTAL
    local session
    for session in /sys/class/iscsi_session/session*; do
        [ "$(cat "$session"/device/connection*/iscsi_connection/connection*/persistent_port)" = "${1##*:}" ] || continue
        basename "$(echo "$session"/device/target*/*:0/block/*)"
    done
}
better=$(path_to "$ALPHA") other=$(path_to "$BETA")
goes_through_main() {
    local before_better before_other
    before_better=$(writes_of "$better") before_other=$(writes_of "$other")
    dd if=/dev/urandom of="$map" bs=4096 count=16 seek=1024 oflag=direct status=none || return 1
    [ "$(writes_of "$better")" -gt "$before_better" ] && [ "$(writes_of "$other")" = "$before_other" ]
}
until_true 60 goes_through_main || { multipath -ll; fail "I/O does not go through main"; }
outside kill alpha
lost_a_path() { ! has_paths "$map" 2; }
until_true 120 lost_a_path || fail "the lost path was not noticed"
outside start alpha
outside healthy
until_true 180 has_paths "$map" 2 || fail "the path did not come back"
until_true 120 goes_through_main || { multipath -ll; fail "I/O does not return to main"; }
multipath -F
