// Package pageserver fills the memory of restored processes while they run.
//
// Words:
//
//   - A space is one address space with missing pages: registered with a userfaultfd, so that who touches them waits until they are in.
//   - A family is the space of a restored process and those of the children that it forks meanwhile. Each family has one thread of the
//     server, which nothing else runs on. It alone reads messages and serves faults; if there are processors enough, others help it to fill what nobody waits for.
//   - What is hot was written shortly before the checkpoint: of what nobody waits for, it comes first. It moves with its mapping.
//   - Page frames that have outlived a change of the kernel are bound instead of copied: they become the process's (frames.Binder). That is possible once, so it is done as
//     soon as the process runs, and as long as no other space lacks the same: what a fork leaves missing in parent and child is copied to the child, and to the parent if it
//     asks for it.
//   - The horizon is up to where in physical memory a server reads what nobody waits for, if it reads page frames that the kernel gets back, block by block, when they were read.
//     Then it goes from the lowest block upwards, for all spaces of a family alike, and says what it does not need any more (Filling.Lowest). Who waits for a page gets
//     it from anywhere, unless memory is scarce, and between two who wait something is read from the lowest block: that makes room.
//   - The guard is a small process that holds the server's descriptors open (kernel.Guard). If the server ends before the last page is in, the
//     guard becomes the undertaker, a kup of its own, which ends the application: it would read zeros where its pages are missing. Page frames that were bound end with it.
//
// The server is a process of its own, `kup page-server`, that a restore starts and leaves behind. It ends when the last page is in; by then
// nothing of it is left in the application. What it is doing stands in a file below /run/kup/pages, see Filling.
//
// Invariants:
//
//   - What is missing is exact: every change that the kernel tells of is made in the set before another page is copied into that space. The kernel
//     keeps us from copying in between (EAGAIN) from the moment of the change until the message is read. Messages of several threads may be
//     read in another order than that of the changes, so that these are only made when the space holds still: then all are known, and what is
//     watched tells the order, see settle.
//   - No message is read while others help: they copy what was missing when they began, and after a change that is only safe as long as the kernel refuses.
//   - A page that is not in the set was never stored, or has been given up by the application: it is zeros.
//   - A space is let go of when nothing is missing in it, or when its process has ended.
//
// What the kernel does not tell: a system call that replaces stored pages without an event (MADV_GUARD_INSTALL followed by MADV_GUARD_REMOVE on pages
// that nobody has touched since the restore, MADV_WIPEONFORK set after the restore and before a fork). From 6.17 on mremap(2) moves several mappings
// at once, but those that are watched only up to the first, with EFAULT.
package pageserver
