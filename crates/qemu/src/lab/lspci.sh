#!/bin/busybox sh
# The PCI functions of this machine: place, class, vendor and device id, driver.
for function in /sys/bus/pci/devices/*; do
    [ -e "$function/class" ] || continue
    driver=$(readlink "$function/driver")
    printf '%s %.6s %s:%s %s\n' "${function##*/}" "$(cut -c3- "$function/class")" \
        "$(cut -c3- "$function/vendor")" "$(cut -c3- "$function/device")" "${driver##*/}"
done
