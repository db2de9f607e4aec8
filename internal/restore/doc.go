// Package restore brings the processes of an image back: load -> plan -> build -> resume.
//
// Run (restore.go) is the walk. Processes are built in seeds (package tracee), which die with kup, so that a restore that fails or
// is killed half-way leaves nothing behind. The plan (plan.go) says in which order processes must be born so that each ends up
// in its session and process group; the tree (tree.go) gives birth to them.
package restore
