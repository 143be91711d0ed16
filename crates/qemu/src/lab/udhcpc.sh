#!/bin/busybox sh
# What udhcpc calls with what it has learnt.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr add "$ip/${mask:-24}" dev "$interface"
for gateway in $router; do
    ip route add default via "$gateway" dev "$interface"
done
: >/etc/resolv.conf
for server in $dns; do
    echo "nameserver $server" >>/etc/resolv.conf
done
