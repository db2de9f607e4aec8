package netlock

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/kup-project/kup/internal/kernel"
)

// ErrUnavailable matches errors that say that this kernel has no nf_tables.
var ErrUnavailable = errors.New("nf_tables is not available")

// prefix begins the name of every table of ours.
const prefix = "kup-"

func table(name string) *nftables.Table {
	return &nftables.Table{Name: prefix + name, Family: nftables.TableFamilyINet}
}

// Lock installs the lock of an application, replacing one that is there already. Without endpoints there is nothing to lock.
func Lock(name string, endpoints []Endpoint) error {
	if err := Unlock(name); err != nil || len(endpoints) == 0 {
		return err
	}
	return change("lock "+name, func(c *nftables.Conn) error {
		t := c.CreateTable(table(name))
		in, out := chains(c, t)
		return addRules(c, t, in, out, endpoints)
	})
}

// BlockAll installs a lock that lets nothing in, and no TCP out, but over the loopback interface: for the time before it is known
// what will be restored. Neighbour discovery of IPv6 goes on.
func BlockAll(name string) error {
	if err := Unlock(name); err != nil {
		return err
	}
	return change("lock "+name, func(c *nftables.Conn) error {
		t := c.CreateTable(table(name))
		in, out := chains(c, t)
		blockAll(c, t, in, out)
		return nil
	})
}

// Unlock removes a lock. It is no error if there is none.
func Unlock(name string) error {
	exists, err := Exists(name)
	if err != nil || !exists {
		return err
	}
	return change("unlock "+name, func(c *nftables.Conn) error {
		c.DelTable(table(name))
		return nil
	})
}

// Exists reports whether there is a lock.
func Exists(name string) (bool, error) {
	names, err := List()
	return slices.Contains(names, name), err
}

// List returns the names of all locks.
func List() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, unavailable("list locks", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, unavailable("list locks", err)
	}
	var names []string
	for _, t := range tables {
		if name, ours := strings.CutPrefix(t.Name, prefix); ours {
			names = append(names, name)
		}
	}
	return names, nil
}

// change makes one transaction: the kernel takes all of it or nothing.
func change(what string, with func(c *nftables.Conn) error) error {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(roomForTransactions))
	if err != nil {
		return unavailable(what, err)
	}
	// The kernel lets whoever closes a socket wait until it has given back what was deleted, ten milliseconds and more
	// (net/netfilter/nf_tables_api.c, nft_rcv_nl_event). Nobody here has to.
	defer func() { go c.CloseLasting() }()
	if err := with(c); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := c.Flush(); err != nil {
		return unavailable(what, err)
	}
	return nil
}

// roomForTransactions lets a whole transaction, which is one message, hold tens of thousands of connections.
func roomForTransactions(c *netlink.Conn) error {
	const room = 64 << 20
	if err := c.SetReadBuffer(room); err != nil {
		return err
	}
	return c.SetWriteBuffer(room)
}

// unavailable explains the errors of kernels without nf_tables: without nfnetlink there is no such socket, without nf_tables
// nobody for the message (net/netfilter/nfnetlink.c, nfnetlink_rcv_msg), without nf_tables_inet no such family.
func unavailable(what string, err error) error {
	for _, e := range []kernel.Errno{kernel.EPROTONOSUPPORT, kernel.EINVAL, kernel.EOPNOTSUPP, kernel.EAFNOSUPPORT, kernel.ENOENT} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s: %w: %w; load the kernel module nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)", what, ErrUnavailable, err)
		}
	}
	return fmt.Errorf("%s: nf_tables: %w", what, err)
}
