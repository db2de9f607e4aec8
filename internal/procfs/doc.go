// Package procfs reads facts about processes from /proc, see proc(5). It changes nothing.
//
// There is one file per /proc file, with a parser that takes the bytes and a Read function that takes a pid. A pid may also be a
// thread's id: the kernel answers under /proc/TID even where it does not list it, and for the files of a thread (stat, status,
// syscall, wchan, children) it then answers for that thread.
//
// A task that has ended makes every Read function return an error that matches fs.ErrNotExist or ErrGone; Gone tells both.
package procfs
