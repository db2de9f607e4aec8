// Package frames carries memory over a change of the kernel: page frames that the old kernel fills and the next one leaves alone.
//
// In the old kernel a Pool takes huge pages. They lie in whole memory blocks, the unit in which Linux adds memory while it runs (Documentation/
// admin-guide/mm/memory-hotplug.rst), and the next kernel is told of these blocks twice: in its memory map they are "soft reserved", so that it leaves
// them alone, and its command line says that it was us (Parameters). In the next kernel Map shows the frames, and GiveBack hands the blocks to the
// page allocator when nothing needs them any more. A machine that is switched off forgets all of it: ErrGone.
//
// There is another way, for kernels with kup's module (folder module): memory that the next kernel reserves, but manages, so that a Binder can make each of its page
// frames of 4096 bytes ordinary memory of a process without a copy, and hand the rest to the page allocator.
//
// Nothing of a Pool outlives the process that took it, unless the kernel changes.
package frames
