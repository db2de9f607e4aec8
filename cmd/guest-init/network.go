package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	networkDevice = "eth0"
	// IFA_F_NODAD of linux/if_addr.h: the address is usable at once, for nobody else is on the wire.
	noDuplicateDetection = 0x02
)

// bringNetworkUp gives the network device the addresses of the command line. A guest without addresses has no network,
// and that is no error. It may be called again.
func bringNetworkUp() error {
	addresses, ok := bootParameter("kup.net")
	if !ok {
		return nil
	}
	if err := waitForFile("/sys/class/net/"+networkDevice, 20*time.Second); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no device %s: is virtio_net loaded?", networkDevice)
		}
		return err
	}
	link, err := netlink.LinkByName(networkDevice)
	if err != nil {
		return fmt.Errorf("%s: %w", networkDevice, err)
	}
	for text := range strings.SplitSeq(addresses, ",") {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("kup.net=%s: %w", addresses, err)
		}
		if address.IP.To4() == nil {
			address.Flags = noDuplicateDetection
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("%s: address %s: %w", networkDevice, text, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: %w", networkDevice, err)
	}
	return nil
}
