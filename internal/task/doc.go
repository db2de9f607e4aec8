// Package task is what a process is, apart from its memory and the objects it holds: its place in the process tree, its threads
// and their registers, credentials, signals, timers and limits.
//
// Capture reads that state from a frozen process, partly from /proc and partly by system calls executed in it; Rebuild executes
// in a seed the system calls that bring it back. The order in which a seed is given its state matters and is explained in
// rebuild.go.
package task
