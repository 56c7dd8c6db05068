# Two hosts on different controllers share a LUN under SCSI-3 persistent reservations, with sg_persist.
# hosts: 2
# seconds at most: 600
LOG_MAY_COMPLAIN=yes # of reservation conflicts
login "$HERE"
disk=$(disk 0)
[ "$HOST" = A ] && mine=0xa1 theirs=0xb1 || { mine=0xb1 theirs=0xa1; }
pr_out() { sg_persist --no-inquiry --out "$@" "$disk" >/dev/null; }
pr_in() { sg_persist --no-inquiry --in "$@" "$disk"; }
keys() { pr_in --read-keys | grep -oE '^ *0x[0-9a-f]+$' | tr -d ' ' | sort | tr '\n' ' '; }
holds() { pr_in --read-reservation | grep -q "$1"; }
write() { dd if=/dev/zero of="$disk" bs=4096 count=1 oflag=direct status=none 2>/dev/null; }
read_() { dd if="$disk" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null; }
# Both are here; what the other one did may have left a unit attention, which the next command would get.
step() {
    meet "$1"
    ready "$disk"
    ready "$disk"
    meet "$1.calm"
}

step begin
check "register" pr_out --register --param-sark=$mine
step registered
check "both keys, seen from here" test "$(keys)" = "0xa1 0xb1 "
pr_in --report-capabilities
step seen

for type in 1 3; do # write exclusive, exclusive access: the holder alone
    [ "$HOST" = B ] || check "reserve, type $type" pr_out --reserve --param-rk=$mine --prout-type=$type
    step "held.$type"
    if [ "$HOST" = B ]; then
        refused "the other registrant writes, type $type" write
        if [ $type = 1 ]; then check "and reads" read_; else refused "and reads" read_; fi
        refused "it reserves" pr_out --reserve --param-rk=$mine --prout-type=$type
    else
        check "the holder writes" write
        check "and reads" read_
    fi
    step "tried.$type"
    [ "$HOST" = B ] || check "release" pr_out --release --param-rk=$mine --prout-type=$type
    step "free.$type"
done

for type in 5 6 7 8; do # for registrants only, for all registrants
    [ "$HOST" = B ] || check "reserve, type $type" pr_out --reserve --param-rk=$mine --prout-type=$type
    step "held.$type"
    check "a registrant writes, type $type" write
    step "both.$type"
    if [ "$HOST" = B ]; then
        check "unregister" pr_out --register --param-rk=$mine
        refused "a stranger writes" write
        case $type in 5 | 7) check "and reads" read_ ;; *) refused "and reads" read_ ;; esac
        refused "a wrong key" pr_out --register --param-rk=0xbad --param-sark=0x1
        check "register again" pr_out --register --param-sark=$mine
    fi
    step "again.$type"
    [ "$HOST" = B ] || check "release" pr_out --release --param-rk=$mine --prout-type=$type
    step "free.$type"
done

# Each takes it from the other.
[ "$HOST" = B ] || check "reserve, type 5" pr_out --reserve --param-rk=$mine --prout-type=5
step taken
[ "$HOST" = A ] || check "preempt" pr_out --preempt --param-rk=$mine --param-sark=$theirs --prout-type=5
step preempted
check "one key is left" test "$(keys)" = "0xb1 "
step counted # the other's next preemption would be seen instead of the keys
if [ "$HOST" = A ]; then
    refused "the preempted one writes" write
    check "register again" pr_out --register --param-sark=$mine
    check "preempt and abort" pr_out --preempt-abort --param-rk=$mine --param-sark=$theirs --prout-type=5
fi
step back
check "one key is left" test "$(keys)" = "0xa1 "
step counted-again # the other's next registration would be seen too
[ "$HOST" = A ] || refused "the other one writes" write
check "register with APTPL" pr_out --register-ignore --param-sark=$mine --param-aptpl
pr_in --read-full-status
step kept

# With APTPL it survives a restart of both controllers; the hosts log in again by themselves, as the same ports.
meet before-restart
if [ "$HOST" = A ]; then
    outside stop alpha
    outside stop beta
    outside start alpha
    outside start beta
    outside healthy
fi
meet restarted
until_true 120 ready "$disk" || fail "the session did not come back"
step logged-in-again
check "both keys are still there" test "$(keys)" = "0xa1 0xb1 "
check "and the reservation" holds 'registrants only'
step looked
[ "$HOST" = B ] || check "clear" pr_out --clear --param-rk=$mine
step cleared
check "no key" test -z "$(keys)"
check "everybody writes" write
meet end
