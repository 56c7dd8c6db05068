# Two hosts on different controllers; A fences B the way fence_scsi does, while B writes: no write of B lands
# afterwards. hosts: 2
# seconds at most: 600
LOG_MAY_COMPLAIN=yes # of reservation conflicts
login "$HERE"
disk=$(disk 0)
[ "$HOST" = A ] && mine=0xa1 theirs=0xb1 || { mine=0xb1 theirs=0xa1; }
pr_out() { sg_persist --no-inquiry --out "$@" "$disk" >/dev/null; }
keys() {
    sg_persist --no-inquiry --in --read-keys "$disk" | grep -oE '^ *0x[0-9a-f]+$' | tr -d ' ' | sort | tr '\n' ' '
}
ready "$disk"
meet begin
check "register" pr_out --register-ignore --param-sark=$mine
meet registered
ready "$disk"
[ "$HOST" = B ] || check "reserve for registrants" pr_out --reserve --param-rk=$mine --prout-type=5
meet reserved
ready "$disk"
if [ "$HOST" = B ]; then
    # Every write carries its number, until one is refused.
    number=1
    while printf '%-4096d' $number >/tmp/block &&
        dd if=/tmp/block of="$disk" bs=4096 count=1 oflag=direct status=none 2>/dev/null; do
        echo $number >/shared/written
        number=$((number + 1))
        [ $number -lt 100000 ] || fail "it was never fenced"
    done
    echo "fenced after $((number - 1)) writes"
    meet fenced
    refused "it writes again" dd if=/tmp/block of="$disk" bs=4096 count=1 oflag=direct status=none
else
    until_true 60 test -s /shared/written || fail "the other host never wrote"
    check "preempt and abort" pr_out --preempt-abort --param-rk=$mine --param-sark=$theirs --prout-type=5
    first=$(dd if="$disk" bs=4096 count=1 iflag=direct status=none)
    check "the other host's key is gone" test "$(keys)" = "0xa1 "
    meet fenced
    check "nothing was written after the answer" \
        test "$(dd if="$disk" bs=4096 count=1 iflag=direct status=none)" = "$first"
    # An acknowledged write is there; one more may have been under way.
    last=$(cat /shared/written)
    check "the last acknowledged write is there" test "$first" -ge "$last" -a "$first" -le $((last + 1))
fi
meet judged
[ "$HOST" = B ] || check "clear" pr_out --clear --param-rk=$mine
meet end
