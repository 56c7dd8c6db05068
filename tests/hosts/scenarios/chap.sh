# One host: logins with CHAP, one-way and mutual, with every digest that open-iscsi knows; a wrong secret is refused.
# hosts: 1
# seconds at most: 300
# toml: [[access.host]]
# toml: name = "iqn.2026-11.com.example:hosta"
# toml: user = "hosta"
# toml: secret_env = "HOSTS_SECRET"
# toml: own_user = "twinlun"
# toml: own_secret_env = "HOSTS_OWN_SECRET"
LOG_MAY_COMPLAIN=yes # of the logins that are refused
right="node.session.auth.authmethod=CHAP node.session.auth.username=hosta node.session.auth.password=$HOSTS_SECRET"
back="node.session.auth.username_in=twinlun node.session.auth.password_in"
try() { (
    ISCSI_SETTINGS=$1
    login "$2"
) }
forget() {
    iscsiadm -m node --logoutall=all >/dev/null 2>&1
    iscsiadm -m node -o delete >/dev/null 2>&1
}
pidof iscsid >/dev/null || { modprobe -a iscsi_tcp sd_mod sg && iscsid; } || fail "iscsid"
refused "a host that proves nothing" try "" "$ALPHA"
forget
refused "a wrong secret" try "${right}x" "$ALPHA"
forget
for digest in MD5 SHA1 SHA256 SHA3-256; do
    for portal in "$ALPHA" "$BETA"; do
        check "$digest at $portal" try "$right node.session.auth.chap_algs=$digest" "$portal"
        check "its disk is read" dd if="$(disk 0)" of=/dev/null bs=4096 count=1 iflag=direct status=none
        forget
    done
done
check "mutual" try "$right $back=$HOSTS_OWN_SECRET" "$ALPHA"
forget
refused "a target that proves something else" try "$right $back=${HOSTS_OWN_SECRET}x" "$ALPHA"
forget
