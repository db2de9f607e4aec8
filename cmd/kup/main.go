// Command kup checkpoints and restores applications, and carries them over a change of the kernel.
//
// There is one file per verb; each hands its flags to package kup and prints what comes back.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }
