# One host with a path through each controller: what sg3_utils show and do is the same through both.
# hosts: 1
# seconds at most: 900
LOG_MAY_COMPLAIN=yes # of what is refused
login "$ALPHA" "$BETA"
disk 0 >/dev/null
until_true 60 test "$(disks 0 | wc -l)" = 2 || fail "not two paths to LUN 0"
paths() { disks "$1"; }
first=$(paths 0 | sed -n 1p) second=$(paths 0 | sed -n 2p)
for disk in $(paths 0) $(paths 1); do
    ready "$disk"
    ready "$disk"
    check "ready: $disk" ready "$disk"
done

# same WHAT COMMAND...: says the same through both paths; what is said of the path itself is left out, and what is free
# on the disk of the LUN's volume: whatever else writes to that disk changes it from one question to the next.
told() {
    local of_the_path='available lba mapping|relative (target )?port|/dev/sd|port group:|target port id|session'
    "$@" 2>&1 | grep -viE "$of_the_path|0x[0-9a-f]*,t,0x|,t,0x"
    return "${PIPESTATUS[0]}"
}
same() {
    local what=$1 one two
    shift
    one=$(told "$@" "$first") || { echo "$one"; fail "$what: $*: status $? through $first"; }
    two=$(told "$@" "$second") || { echo "$two"; fail "$what: $*: status $? through $second"; }
    [ "$one" = "$two" ] || { diff <(echo "$one") <(echo "$two"); fail "$what: not the same through both: $*"; }
    echo "ok: $what"
    [ -z "${SHOW:-}" ] || echo "$one"
}

same "INQUIRY" sg_inq
for page in sv sn di mode ai bl bdc lbpv tpc; do
    sg_vpd -q --page=$page "$first" >/dev/null 2>&1 || { echo "no page $page"; continue; }
    same "VPD page $page" sg_vpd --page=$page
done
same "READ CAPACITY(10)" sg_readcap
same "READ CAPACITY(16)" sg_readcap --16
same "REPORT LUNS" sg_luns
same "MODE SENSE(10), all pages" sg_modes -a
same "MODE SENSE(6), all pages" sg_modes -6 -a
same "changeable values" sg_modes -c 1 -a
same "default values" sg_modes -c 2 -a
same "saved values" sg_modes -c 3 -a
same "LOG SENSE, supported pages" sg_logs
same "LOG SENSE, all pages" sg_logs -a
same "REPORT SUPPORTED OPERATION CODES" sg_opcodes --compact
same "with command timeouts" sg_opcodes --rctd
same "one of them" sg_opcodes --opcode=0x8a
same "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS" sg_opcodes --tmf --repd
same "REPORT TARGET PORT GROUPS" sg_rtpg -d
same "with the extended header" sg_rtpg -d -e
same "GET LBA STATUS" sg_get_lba_status --lba=0
same "RECEIVE COPY RESULTS, operating parameters" sg_copy_results --params
read_defects() { sg_raw -r 8 "$1" 37 00 0d 00 00 00 00 00 08 00; }
same "READ DEFECT DATA(10)" read_defects

# What one path writes, the other reads.
pattern() { head -c $((4096 * $1)) /dev/urandom >/tmp/pattern; }
# sees DISK BLOCK COUNT: the blocks, through this path, are the pattern.
sees() { dd if="$1" bs=4096 skip="$2" count="$3" iflag=direct status=none | cmp - /tmp/pattern; }
zeros() { head -c $((4096 * $1)) /dev/zero >/tmp/pattern; }
size=$(blockdev --getss "$first")
each=$((4096 / size))
echo "logical blocks of $size bytes"
for way in "$first $second" "$second $first"; do
    set -- $way
    pattern 16
    check "WRITE AND VERIFY(16) through $1" \
        sg_write_verify --16 --lba=$((64 * each)) --num=$((16 * each)) --ilen=65536 --in=/tmp/pattern "$1"
    check "is read through $2" sees "$2" 64 16
    check "VERIFY(16) with the bytes, through $2" \
        sg_verify --16 --lba=$((64 * each)) --count=$((16 * each)) --ndo=65536 --in=/tmp/pattern "$2"
    pattern 16
    refused "VERIFY(16) with other bytes" \
        sg_verify --16 --lba=$((64 * each)) --count=$((16 * each)) --ndo=65536 --in=/tmp/pattern "$2"
    check "SYNCHRONIZE CACHE(16)" sg_sync --16 --lba=0 --count=0 "$2"

    head -c "$size" /dev/urandom >/tmp/block
    check "WRITE SAME(16) of a pattern" \
        sg_write_same --16 --in=/tmp/block --lba=$((64 * each)) --num=$((16 * each)) --xferlen="$size" "$1"
    for ((at = 0; at < 16 * each; at++)); do cat /tmp/block; done >/tmp/pattern
    check "is read" sees "$2" 64 16
    check "WRITE SAME(16), NDOB" sg_write_same --16 --ndob --lba=$((64 * each)) --num=$((16 * each)) "$1"
    zeros 16
    check "is read as zeros" sees "$2" 64 16

    pattern 16
    dd if=/tmp/pattern of="$2" bs=4096 seek=64 oflag=direct status=none
    check "is read" sees "$1" 64 16
    check "UNMAP" sg_unmap --force --lba=$((64 * each)) --num=$((16 * each)) "$1"
    zeros 16
    check "is read as zeros" sees "$2" 64 16
    check "GET LBA STATUS says so" sh -c "sg_get_lba_status --lba=$((64 * each)) $2 | grep -qi deallocated"
    check "WRITE SAME(16) with UNMAP" \
        sg_write_same --16 --unmap --lba=$((64 * each)) --num=$((16 * each)) --xferlen="$size" "$1"

    zeros 1
    head -c 4096 /dev/urandom >/tmp/new
    cat /tmp/pattern /tmp/new >/tmp/both
    check "COMPARE AND WRITE" sg_compare_and_write --in=/tmp/both --lba=$((64 * each)) --num=$each --xferlen=8192 "$1"
    cp /tmp/new /tmp/pattern
    check "is read" sees "$2" 64 1
    refused "COMPARE AND WRITE of something else" \
        sg_compare_and_write --quiet --in=/tmp/both --lba=$((64 * each)) --num=$each --xferlen=8192 "$2"
    check "nothing was written" sees "$1" 64 1
    pattern 2
    check "WRITE ATOMIC(16)" sg_write_x --atomic=0 --16 --lba=$((64 * each)) --num=$((2 * each)) --in=/tmp/pattern "$1"
    check "is read" sees "$2" 64 2
    cp /tmp/pattern /tmp/kept
    head -c 8192 /dev/zero >/tmp/zeros
    check "ORWRITE(16) of zeros" sg_write_x --or --16 --lba=$((64 * each)) --num=$((2 * each)) --in=/tmp/zeros "$1"
    check "changes nothing" sees "$2" 64 2
done

# Between two LUNs, each with its own main; the destination is looked at through the other controller.
other_first=$(paths 1 | sed -n 1p) other_second=$(paths 1 | sed -n 2p)
pattern 256
dd if=/tmp/pattern of="$first" bs=4096 seek=512 oflag=direct status=none
check "EXTENDED COPY" \
    sg_xcopy if="$first" of="$other_first" bs="$size" skip=$((512 * each)) seek=$((1024 * each)) count=$((256 * each))
check "is read through the other controller" sees "$other_second" 1024 256
check "sg_dd reads the same" \
    sh -c "sg_dd if=$second bs=$size skip=$((512 * each)) count=$((256 * each)) of=- 2>/dev/null | cmp - /tmp/pattern"

check "PREVENT ALLOW MEDIUM REMOVAL" sg_prevent --prevent=1 "$first"
check "and allow" sg_prevent --allow "$first"
check "START STOP UNIT, start" sg_start --start "$first"
check "PRE-FETCH(16)" sg_raw "$first" 90 00 00 00 00 00 00 00 00 00 00 00 00 08 00 00
refused "SET TARGET PORT GROUPS" sg_raw "$first" a4 0a 00 00 00 00 00 00 00 00 00 00


# A saved mode page, seen through both. (sg_wr_mode of Debian 13 refuses all contents: "bad argument".)
caching_page() { sg_raw -b -r 24 "$1" 1a 08 08 00 18 00 2>/dev/null; }
write_cache() { caching_page "$1" | od -An -tu1 -j6 -N1; }
# save_write_cache DISK 00|04: MODE SELECT(6) of the Caching page as it is, but for WCE.
save_write_cache() {
    local at_value
    caching_page "$1" >/tmp/page
    for at_value in 0:00 2:00 4:08 "6:$2"; do
        printf "\\x${at_value#*:}" | dd of=/tmp/page bs=1 seek="${at_value%:*}" conv=notrunc status=none
    done
    sg_raw -s 24 -i /tmp/page "$1" 15 11 00 00 18 00
}
check "write cache off, saved" save_write_cache "$first" 00
ready "$second"
same "caching page" sg_modes --page=8
check "through the other one, too" test $(($(write_cache "$second") & 4)) = 0
check "write cache on again" save_write_cache "$second" 04
ready "$first"
check "through the other one, too" test $(($(write_cache "$first") & 4)) = 4

# Legacy reservations, across controllers: this host's two sessions are two initiators.
check "RESERVE(6)" sg_raw "$first" 16 00 00 00 00 00
refused "the other session is kept out" sg_raw -r 4096 "$second" 28 00 00 00 00 00 00 00 $(printf '%02x' $each) 00
check "RELEASE(6)" sg_raw "$first" 17 00 00 00 00 00
ready "$second"
check "not any more" sg_raw -b -o /dev/null -r 4096 "$second" 28 00 00 00 00 00 00 00 $(printf '%02x' $each) 00

# A reset through one is told through both.
check "LOGICAL UNIT RESET" sg_reset --device "$first"
# It is told once through each.
ready "$first"
ready "$second"
check "ready again" ready "$first"
check "ready again" ready "$second"

# SANITIZE: nothing of the content is left on either controller.
pattern 4
dd if=/tmp/pattern of="$other_first" bs=4096 seek=8 oflag=direct status=none
check "SANITIZE, block erase" sg_sanitize --block --quick --wait "$other_first"
ready "$other_second"
zeros 4
check "zeros through one" sees "$other_first" 8 4
check "zeros through the other" sees "$other_second" 8 4

# FORMAT UNIT: the same, with words of its own; and the default self-test.
pattern 4
dd if=/tmp/pattern of="$other_second" bs=4096 seek=8 oflag=direct status=none
check "FORMAT UNIT" sg_format --format --wait "$other_second"
ready "$other_first"
zeros 4
check "zeros through one" sees "$other_first" 8 4
check "zeros through the other" sees "$other_second" 8 4
refused "FORMAT UNIT with protection information" sg_raw "$other_first" 04 40 00 00 00 00
for disk in "$first" "$second"; do
    check "SEND DIAGNOSTIC, default self-test" sg_senddiag --test "$disk"
done
