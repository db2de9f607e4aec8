package frames

import (
	"fmt"
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
		if err != nil {
			return 0, err
		}
		bytes += status.VMPTE
	}
	_, copied, err := toBeCopied(pids)
	return bytes + copied, err
}

// movable is how much memory will have to be copied in the running kernel, bytes, for processes that run.
func (p *InPlace) movable(pids []int) (bytes uint64, err error) {
	v, copied, err := toBeCopied(pids)
	if err != nil {
		return 0, err
	}
	for _, r := range v.Memory() {
		bytes += r.Size() - p.kept.Within(r).Size()
	}
	return bytes + copied, nil
}

// toBeCopied looks where the memory of running processes is, and how much the next kernel gets as a copy wherever that is, bytes, shared memory of the machine included.
func toBeCopied(pids []int) (v *Inventory, bytes uint64, err error) {
	var all []Process
	for _, pid := range pids {
		private, err := PrivateMappings(pid)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, Process{pid, private})
	}
	if v, err = Scan(all); err != nil {
		return nil, 0, err
	}
	shared, err := kexec.SharedMemory()
	if err != nil {
		return nil, 0, err
	}
	pool, err := poolInUse()
	return v, v.copied() + shared + pool, err
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

// copied is how much cannot stay in a frame of its own, bytes: what is swapped out, and of what several have all but one. Huge pages of the pool are not counted.
func (v *Inventory) copied() (bytes uint64) {
	for _, p := range v.Processes {
		for _, e := range p.Swapped {
			bytes += e.End - e.Start
		}
	}
	for _, s := range v.Shared {
		bytes += s.Count * kernel.PageSize * uint64(len(s.Places)-1)
	}
	return bytes
}
