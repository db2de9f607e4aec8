// Next-kernel starts another kernel in a guest, at once and with no care for what runs: next-kernel VMLINUZ INITRD.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/kexec"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "next-kernel:", err)
		os.Exit(1)
	}
}

func run() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	options := kexec.Options{Kernel: os.Args[1], Initrd: os.Args[2], CmdLine: strings.TrimSpace(string(line))}
	if _, err := kexec.Load(options); err != nil {
		return err
	}
	fmt.Println("jump")
	return kexec.Jump()
}
