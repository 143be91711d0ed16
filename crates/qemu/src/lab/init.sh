#!/bin/busybox sh
# The first process of the guest lab. With openhdv.* on the kernel's command line it becomes the guest program; otherwise it
# gives a shell on every console that is named there, and powers off when the power button is pressed.

/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
parameters=$(cat /proc/cmdline)

consoles=
for parameter in $parameters; do
    case $parameter in
        console=*)
            console=${parameter#console=}
            consoles="$consoles ${console%%,*}"
            ;;
    esac
done

case " $parameters" in
    *' openhdv.'*)
        echo "OpenHDV lab $(uname -r)"
        # It mounts and loads what it needs itself.
        umount /proc
        exec /bin/openhdv-guest
        echo 'this lab has no guest program: make it with cargo xtask lab'
        poweroff -f
        ;;
esac

mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /sys /run /var/run /tmp /mnt
mount -t devpts devpts /dev/pts
mount -t sysfs sysfs /sys
while read -r module; do
    insmod "/modules/$module" || echo "$module was not loaded"
done </modules/order

# The power button is an input device; /etc/acpi says what it does.
acpid -d >/dev/null 2>&1 &

for interface in /sys/class/net/eth*; do
    [ -e "$interface" ] || continue
    ip link set "${interface##*/}" up
    udhcpc -i "${interface##*/}" -s /etc/udhcpc -b -q >/dev/null 2>&1 &
done

shell() {
    while :; do
        # As serial terminals are: otherwise the shell asks whoever is there for the size at every prompt.
        stty rows 24 cols 80 <"$1"
        # A session of its own with this terminal: so Ctrl-C reaches what runs in it, and nothing else. It comes by way of
        # login because what a shell starts in the background ignores Ctrl-C, for ever, unless a program undoes that.
        setsid -c login -f root <"$1" >"$1" 2>&1
        sleep 1
    done
}
for console in ${consoles:-console}; do
    [ -c "/dev/$console" ] && shell "/dev/$console" &
done

# What poweroff, halt and reboot send to the first process.
trap 'poweroff -f' USR1 USR2
trap 'reboot -f' TERM
while :; do
    wait
    sleep 1
done
