# One host: ext4 and xfs on each controller, on a LUN that this controller is main for and on one that it is not.
# hosts: 1
# seconds at most: 900
for portal in "$ALPHA" "$BETA"; do
    login "$portal"
    for lun in 0 1; do
        disk=$(disk $lun)
        check "INQUIRY" sg_inq "$disk"
        check "device identification" sg_vpd -p di "$disk"
        check "READ CAPACITY(16)" sg_readcap --16 "$disk"
        for type in ext4 xfs; do
            check "make $type on LUN $lun at $portal" mkfs.$type -q "$([ $type = xfs ] && echo -f || echo -F)" "$disk"
            check "mount" mount "$disk" /mnt
            check "write" dd if=/dev/urandom of=/mnt/data bs=1M count=12 conv=fsync status=none
            sum=$(sha256sum </mnt/data)
            check "unmount" umount /mnt
            blockdev --flushbufs "$disk"
            check "mount again" mount "$disk" /mnt
            check "what was written is read" test "$(sha256sum </mnt/data)" = "$sum"
            check "trim" fstrim /mnt
            check "unmount" umount /mnt
            case $type in
            ext4) check "fsck" e2fsck -fn "$disk" ;;
            xfs) check "xfs_repair" xfs_repair -n "$disk" ;;
            esac
        done
    done
    check "logout" logout
done
