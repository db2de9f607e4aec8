package main

import "fmt"

// variant is a way to carry memory over a change of the kernel. Another carrier is another row, with the options that choose it.
type variant struct {
	name    string
	carrier string   // where the memory is meanwhile
	update  []string // options of kup update
	boot    []string // of kup boot
}

// The names are those of "Instant OS Updates via Userspace Checkpoint-and-Restart" (USENIX ATC 2016).
var (
	basic       = variant{"basic", "disk", []string{"--no-precopy"}, []string{"--eager"}}
	incremental = variant{"incremental", "disk", nil, []string{"--eager"}}
	onDemand    = variant{"on demand", "disk", []string{"--no-precopy"}, nil}
	foam        = variant{"FOAM", "disk", nil, nil}
	ppp         = variant{"PPP", "frames=module", []string{"--module", guestModule}, nil}

	variants = []variant{
		basic, incremental, onDemand, foam,
		basic.inRAM(), incremental.inRAM(), onDemand.inRAM(), foam.inRAM(),
		ppp, ppp.copied(),
	}
)

// guestModule is where the guest has kup's module for the next kernel.
const guestModule = "/usr/lib/kup-bench/kup-frames.ko"

// inRAM is the same way with the other carrier.
func (v variant) inRAM() variant {
	v.carrier = "ram"
	return v
}

// copied is the same way without a module in the next kernel.
func (v variant) copied() variant {
	v.carrier, v.update = "frames=copy", nil
	return v
}

// inPlace tells whether the memory stays where it is.
func (v variant) inPlace() bool { return v.name == ppp.name }

// usualGuest is the memory of the machine in which variants are compared, MB.
func (v variant) usualGuest() int {
	if v.inPlace() {
		return besideGuestMB
	}
	return usualGuestMB
}

// scenario is an update to be measured.
type scenario struct {
	variant
	megabytes int // of items in memcached
	sets      int // percent of the clients' requests that write an item
	guest     int // MB of memory of the machine
	itemBytes int
	hops      int // more updates in a row, after the one that is measured in all its parts
}

func (s scenario) String() string {
	return fmt.Sprintf("update %s %s %d MB %d%% sets, guest of %d MB", s.name, s.carrier, s.megabytes, s.sets, s.guest)
}

const (
	moreHops = 3 // where updates in a row are compared

	usualSets        = 10  // percent, where sizes are compared
	smallMegabytes   = 32  // where downtimes are compared by size, with the largest
	usualMegabytes   = 64  // where rates of writing are compared
	largestMegabytes = 128 // what an emulated machine copies in reasonable time: where variants are compared

	usualGuestMB   = 1024
	besideGuestMB  = 2048 // the same, where another kernel starts beside the applications
	usualItemBytes = 4096

	// Where carriers are compared by size, the machine and its memory are larger, and so are the items: it takes the clients long to fill it.
	largeGuestMB   = 3072
	largeItemBytes = 32 << 10
)

// sizes are how much memory a carrier is measured with in the large machine, MB. An emulated disk takes minutes for more.
func (v variant) sizes() []int {
	if v.carrier == foam.carrier {
		return []int{256, 512}
	}
	return []int{256, 1024}
}

// scenarios are all variants with the most memory, those that differ most by size with little, and the whole technique by how much the clients write: without pre-copy,
// all is copied anyway. Then the best of each carrier by size.
func scenarios() []scenario {
	var all []scenario
	usual := func(v variant, megabytes, sets int) {
		all = append(all, scenario{v, megabytes, sets, v.usualGuest(), usualItemBytes, 0})
	}
	for _, v := range variants {
		usual(v, largestMegabytes, usualSets)
	}
	for _, v := range []variant{basic, foam} {
		usual(v, smallMegabytes, usualSets)
	}
	for _, sets := range []int{usualSets, 50, 90} {
		usual(foam, usualMegabytes, sets)
	}
	for _, v := range []variant{foam, foam.inRAM(), ppp, ppp.copied()} {
		for i, megabytes := range v.sizes() {
			s := scenario{v, megabytes, usualSets, largeGuestMB, largeItemBytes, 0}
			if v.inPlace() && i == 0 {
				s.hops = moreHops
			}
			all = append(all, s)
		}
	}
	return all
}
