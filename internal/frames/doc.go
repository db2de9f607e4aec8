// Package frames carries memory over a change of the kernel: page frames that the old kernel fills and the next one leaves alone.
//
// # By copy
//
// In the old kernel a Pool takes huge pages. They lie in whole memory blocks, the unit in which Linux adds memory while it runs (Documentation/
// admin-guide/mm/memory-hotplug.rst), and the next kernel is told of these blocks twice: in its memory map they are "soft reserved", so that it leaves
// them alone, and its command line says that it was us (Parameters). In the next kernel Memory shows the frames, and GiveBack hands the blocks to the
// page allocator when nothing needs them any more. A machine that is switched off forgets all of it: ErrGone.
//
// Nothing of a Pool outlives the process that took it, unless the kernel changes.
//
// # In place
//
// Nothing needs to be copied if the applications' memory stays where it is, and the next kernel has another place to start in. In the old kernel:
//
//	quiet, err := frames.BeQuiet(dir)              // applications run: settings that keep the kernel from moving page frames
//	slice, err := frames.TakeSlice(ctx, dir, need) // memory blocks that it has emptied and given up
//	inventory, err := frames.Scan(processes)       // applications are frozen: which frames hold their memory
//	left := inventory.Within(where)                // which of these the next kernel would write over: they have to be copied
//	moved, err := inventory.Moved()                // just before the jump: whether the inventory is still true
//
// InPlace is all of this for an update. The next kernel reserves what stays (ReservedParameter), but manages it, so that a Binder, which needs kup's module (folder
// module), can make each page frame ordinary memory of a process without a copy, and hand the rest to the page allocator. Or, without a module, whole memory blocks are
// "soft reserved" as above, in units that are given back one by one (Loan), while the contents of others are still being copied to the processes.
//
// Close of both puts the machine back as it was. After a kup that was killed Recover does so, from records in dir, as does whoever begins anew there.
//
// An inventory is a snapshot: nothing keeps the kernel from moving a frame at any time unless the memory is locked as well (compact_unevictable_allowed), so that it
// holds only if Moved says so, and who finds that something has moved scans again. khugepaged moves the memory of stopped processes, too.
//
// Words: a page frame is 4 KiB of memory, known by its number; a run is so many of them behind consecutive addresses; a block is what Linux takes offline at a time.
package frames
