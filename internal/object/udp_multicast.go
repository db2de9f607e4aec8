package object

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// memberships finds the multicast groups of a socket. The kernel lists groups by interface only, and tells of a socket whether it
// is in one.
func memberships(h *heldSocket, v6 bool) ([]image.MulticastGroup, error) {
	groups, err := allGroups(h.pid)
	if err != nil {
		return nil, fmt.Errorf("multicast groups: %w", err)
	}
	var in []image.MulticastGroup
	for _, g := range groups {
		if g.Group.Is6() && !v6 {
			continue
		}
		member, plain, err := isMember(h.fd, g)
		if err != nil {
			return nil, fmt.Errorf("multicast group %s on %s: %w", g.Group, g.Interface, err)
		}
		if member && !plain {
			return nil, refuse.Errorf("the socket is in multicast group %s on %s with a filter of sources, which kup cannot checkpoint; leave the group", g.Group, g.Interface)
		}
		if member {
			in = append(in, g)
		}
	}
	return in, nil
}

// allGroups reads /proc/PID/net/igmp and igmp6.
func allGroups(pid int) ([]image.MulticastGroup, error) {
	var groups []image.MulticastGroup
	text, err := os.ReadFile(procfs.Path(pid, "net/igmp"))
	if err != nil {
		return nil, err
	}
	device := ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") && len(fields) > 1 {
			device = strings.TrimSuffix(fields[1], ":")
			continue
		}
		// The address is printed as the number that its bytes make in memory.
		if b, err := hex.DecodeString(fields[0]); err == nil && len(b) == 4 {
			slices.Reverse(b)
			groups = append(groups, image.MulticastGroup{Interface: device, Group: netip.AddrFrom4([4]byte(b))})
		}
	}
	text, err = os.ReadFile(procfs.Path(pid, "net/igmp6"))
	if errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return groups, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if b, err := hex.DecodeString(fields[2]); err == nil && len(b) == 16 {
			groups = append(groups, image.MulticastGroup{Interface: fields[1], Group: netip.AddrFrom16([16]byte(b))})
		}
	}
	return groups, nil
}

// Options that take a group as struct group_req or struct group_filter, include/uapi/linux/in.h.
const (
	mcastJoinGroup = 42
	mcastMSFilter  = 48
	mcastExclude   = 0
)

// groupStructure begins like struct group_req: interface, and at 8 the address as struct sockaddr_storage.
func groupStructure(g image.MulticastGroup, size int) ([]byte, error) {
	device, err := net.InterfaceByName(g.Interface)
	if err != nil {
		return nil, conflictf("multicast group %s: there is no interface %s", g.Group, g.Interface)
	}
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, uint32(device.Index))
	addr, err := encodeAddr(netip.AddrPortFrom(g.Group, 0), g.Group.Is6())
	copy(b[8:], addr)
	return b, err
}

func groupLevel(g image.MulticastGroup) int {
	if g.Group.Is6() {
		return kernel.SolIPv6
	}
	return kernel.SolIP
}

// isMember reports whether a socket is in a group, and whether it takes all sources there.
func isMember(fd int, g image.MulticastGroup) (member, plain bool, err error) {
	const mode, count, size = 136, 140, 144 // of struct group_filter, without sources
	b, err := groupStructure(g, size)
	if err != nil {
		return false, false, err
	}
	_, err = kernel.SocketOption(fd, groupLevel(g), mcastMSFilter, b)
	if errors.Is(err, kernel.EADDRNOTAVAIL) {
		return false, false, nil
	}
	plain = binary.NativeEndian.Uint32(b[mode:]) == mcastExclude && binary.NativeEndian.Uint32(b[count:]) == 0
	return err == nil, plain, err
}

func joinGroup(fd int, g image.MulticastGroup) error {
	const size = 136 // sizeof(struct group_req)
	b, err := groupStructure(g, size)
	if err != nil {
		return err
	}
	if err := kernel.SetSocketOption(fd, groupLevel(g), mcastJoinGroup, b); err != nil {
		return fmt.Errorf("join multicast group %s on %s: %w", g.Group, g.Interface, err)
	}
	return nil
}
