package frames

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/procfs"
)

// structPage is what a kernel has for each page frame of the machine, reserved or not, bytes: struct page, include/linux/mm_types.h.
const structPage = 64

// nextNeeds is how much memory the next kernel must have, bytes, before it gets back what was reserved: what every kernel needs, what it needs to manage all memory and the
// page tables of processes, and room for what comes as a copy. The processes run.
func nextNeeds(pids []int) (bytes uint64, err error) {
	total, err := kexec.TotalMemory()
	if err != nil {
		return 0, err
	}
	bytes = bootNeeds + total/kernel.PageSize*structPage
	for _, pid := range pids {
		status, err := procfs.ReadStatus(pid)
		if err != nil && !procfs.Gone(err) {
			return 0, err
		}
		bytes += status.VMPTE
	}
	_, copied, err := toBeCopied(pids)
	return bytes + copied, err
}

// movable is how much memory will have to be copied in the running kernel, bytes, for processes that run.
func (p *InPlace) movable(pids []int) (bytes uint64, err error) {
	memory, copied, err := toBeCopied(pids)
	if err != nil {
		return 0, err
	}
	for _, r := range memory {
		bytes += r.memory().Size() - p.kept.Within(r.memory()).Size()
	}
	return bytes + copied, nil
}

// toBeCopied looks where the memory of running processes is, and how much the next kernel gets as a copy wherever that is, bytes, shared memory of the machine included.
// Processes that end meanwhile have none.
func toBeCopied(pids []int) (memory []Run, bytes uint64, err error) {
	var all tally
	for _, pid := range pids {
		private, err := PrivateMappings(pid)
		var v *Inventory
		if err == nil {
			v, err = Scan([]Process{{pid, private}})
		}
		if procfs.Gone(err) || errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		all.add(v)
	}
	shared, err := kexec.SharedMemory()
	if err != nil {
		return nil, 0, err
	}
	pool, err := poolInUse()
	return all.memory, all.copied + shared + pool, err
}

// tally sums up inventories of single processes: they are not listed at one instant, since they run.
type tally struct {
	seen   pageSet
	memory []Run  // every page frame once
	copied uint64 // what cannot stay in a frame of its own, bytes: what is swapped out, and of what several have all but one
}

func (t *tally) add(v *Inventory) {
	all := v.Processes[0].Runs
	for _, s := range v.Shared {
		for _, place := range s.Places {
			all = append(all, Run{Addr: place.Addr, Frame: s.Frame, Count: s.Count, Kind: s.Kind})
		}
	}
	for _, r := range all {
		t.copied += r.memory().Size()
		for _, fresh := range t.seen.claim(nil, r) {
			t.memory = append(t.memory, fresh)
			t.copied -= fresh.memory().Size()
		}
	}
	for _, e := range v.Processes[0].Swapped {
		t.copied += e.End - e.Start
	}
}

// poolInUse is how much of the pools of huge pages is in use, bytes. It counts neither as memory of processes nor as shared memory.
func poolInUse() (bytes uint64, err error) {
	pools, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return 0, err
	}
	for _, dir := range pools {
		var kb uint64
		if _, err := fmt.Sscanf(filepath.Base(dir), "hugepages-%dkB", &kb); err != nil {
			return 0, err
		}
		all, err := readNumber(dir+"/nr_hugepages", 10)
		if err != nil {
			return 0, err
		}
		free, err := readNumber(dir+"/free_hugepages", 10)
		if err != nil {
			return 0, err
		}
		bytes += (all - free) * kb << 10
	}
	return bytes, nil
}
