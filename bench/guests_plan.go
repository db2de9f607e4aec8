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

	variants = []variant{
		basic, incremental, onDemand, foam,
		basic.inRAM(), incremental.inRAM(), onDemand.inRAM(), foam.inRAM(),
	}
)

// inRAM is the same way with the other carrier.
func (v variant) inRAM() variant {
	v.carrier = "ram"
	return v
}

// scenario is an update to be measured.
type scenario struct {
	variant
	megabytes int // of items in memcached
	sets      int // percent of the clients' requests that write an item
}

func (s scenario) String() string {
	return fmt.Sprintf("update %s %s %d MB %d%% sets", s.name, s.carrier, s.megabytes, s.sets)
}

const (
	usualSets        = 10  // percent, where sizes are compared
	smallMegabytes   = 32  // where downtimes are compared by size, with the largest
	usualMegabytes   = 64  // where rates of writing are compared
	largestMegabytes = 128 // what an emulated machine carries in reasonable time: where variants are compared
)

// scenarios are all variants with the most memory, the first and the last of them with little, and the whole technique by how much the clients write: without pre-copy,
// all is copied anyway.
func scenarios() []scenario {
	var all []scenario
	for _, v := range variants {
		all = append(all, scenario{v, largestMegabytes, usualSets})
	}
	for _, v := range []variant{basic, foam, basic.inRAM(), foam.inRAM()} {
		all = append(all, scenario{v, smallMegabytes, usualSets})
	}
	for _, sets := range []int{usualSets, 50, 90} {
		all = append(all, scenario{foam, usualMegabytes, sets})
	}
	return all
}
