package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Addresses at the two ends of a Net.
const (
	HostAddr   = "10.99.0.1"
	GuestAddr  = "10.99.0.2"
	HostAddr6  = "fd99::1"
	GuestAddr6 = "fd99::2"

	prefixLen  = "/24"
	prefixLen6 = "/64"
	tapName    = "kuptap0"
)

// Net is a network namespace of the host with one wire, a tap device, to a guest. It has no name and lives by its
// descriptor alone: whatever ends this process and the guest ends the namespace and all in it.
type Net struct {
	ns netns.NsHandle
}

// NewNet makes the namespace, with addresses HostAddr and HostAddr6 on the wire and a loopback device.
func NewNet() (*Net, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("this thread's network namespace: %w", err)
	}
	defer home.Close()
	ns, err := netns.New() // enters it, too
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("new network namespace: %w; it takes root (CAP_SYS_ADMIN)", err)
	}
	err = makeWire()
	if back := netns.Set(home); back != nil {
		// The thread stays locked and ends with its goroutine: nobody else may run in the wrong namespace.
		return nil, errors.Join(fmt.Errorf("back to the home network namespace: %w", back), err, ns.Close())
	}
	runtime.UnlockOSThread()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &Net{ns: ns}, nil
}

func makeWire() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: tapName}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("tap device %s: %w", tapName, err)
	}
	for _, text := range []string{HostAddr + prefixLen, HostAddr6 + prefixLen6} {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = 0x02 // IFA_F_NODAD: usable at once
		}
		if err := netlink.AddrAdd(tap, addr); err != nil {
			return fmt.Errorf("tap device %s: address %s: %w", tapName, text, err)
		}
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("tap device %s: %w", tapName, err)
	}
	return nil
}

// guestParameter is what the guest's kernel command line says about its end.
func (n *Net) guestParameter() string {
	return "kup.net=" + GuestAddr + prefixLen + "," + GuestAddr6 + prefixLen6
}

// Do runs f in the namespace, on a thread of its own. Sockets that f makes, and processes that it starts, stay in the
// namespace; goroutines that it starts do not belong to it. F must return, and thus not call testing's FailNow.
func (n *Net) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := n.visit(f)
		result <- err
		if home {
			runtime.UnlockOSThread()
		} // else the thread ends with its goroutine
	}()
	return <-result
}

// visit runs f in the namespace, on this thread, to which the caller has locked itself. It tells whether the thread is home again. It must go home
// even if it is of no use any more: a process's first thread never ends before the process, and would keep the namespace alive.
func (n *Net) visit(f func() error) (home bool, err error) {
	was, err := netns.Get()
	if err != nil {
		return true, fmt.Errorf("this thread's network namespace: %w", err)
	}
	defer was.Close()
	if err := netns.Set(n.ns); err != nil {
		return true, fmt.Errorf("enter the guest's network namespace: %w", err)
	}
	err = f()
	if back := netns.Set(was); back != nil {
		return false, errors.Join(err, fmt.Errorf("back to the home network namespace: %w", back))
	}
	return true, err
}

// Dial connects to a numeric address, for instance GuestAddr+":11211", from within the namespace.
func (n *Net) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		// A numeric address is dialled by the calling goroutine itself, and thus on this thread. On a busy host, a change of the guest's
		// kernel takes longer than Go's keep-alive probes wait for an answer, 150 s.
		dialer := net.Dialer{KeepAlive: -1}
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// DialUntilUp is Dial to a server that may just be starting: attempts are repeated for so long.
func (n *Net) DialUntilUp(ctx context.Context, address string, most time.Duration) (net.Conn, error) {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		conn, err := n.Dial(attempt, "tcp", address)
		cancel()
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return conn, err
		}
	}
}

// Close gives the namespace up. It ends when nothing lives in it any more.
func (n *Net) Close() error { return n.ns.Close() }
