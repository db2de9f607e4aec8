package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) module() *cobra.Command {
	m := &cobra.Command{
		Use:   "module",
		Short: "Build the kernel module that lets memory stay where it is",
		Long: `kup's kernel module makes page frames that were left in place during an update ordinary memory of the applications again,
in the new kernel. It is optional, and small; it must be built for each kernel before an update to it.`,
		Args: c.noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	m.AddCommand(c.moduleBuild(), c.moduleSource())
	return m
}

func (c *command) moduleBuild() *cobra.Command {
	var o kup.ModuleOptions
	build := &cobra.Command{
		Use:   "build --kernel VMLINUZ|RELEASE",
		Short: "Build kup's kernel module for another kernel",
		Long: `build builds the module that kup carries with it, with the headers of the kernel that it is for and the compiler that these name,
and prints its path. It checks that the headers are those of the kernel, and that the kernel has each function that the module looks up
when it is loaded; -v tells what was checked. A kernel that takes signed modules only wants the module to be signed.`,
		Example: `  kup module build --kernel /boot/vmlinuz-6.12.117+deb12-amd64
  kup module build --kernel 6.1.0-56-cloud-amd64 --headers ./usr/src/linux-headers-6.1.0-56-cloud-amd64 --out kup-frames.ko`,
		Args: takes(0, 0, ""),
		RunE: c.verb(func(cmd *cobra.Command, _ []string) error {
			if o.Kernel == "" {
				return usagef("module build needs --kernel")
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			report, err := kup.BuildModule(ctx, o)
			if err != nil {
				return err
			}
			return c.print(report, func(w io.Writer) error { return c.printModule(w, report) })
		}),
	}
	flags := build.Flags()
	flags.StringVar(&o.Kernel, "kernel", "", "the kernel that the module is for: path of a bzImage, or a release")
	flags.StringVar(&o.Headers, "headers", "", "folder of its headers (default /lib/modules/RELEASE/build, or /usr/src/linux-headers-RELEASE)")
	flags.StringVar(&o.Out, "out", "", "path of the module (default kup-frames-RELEASE.ko)")
	return build
}

func (c *command) moduleSource() *cobra.Command {
	return &cobra.Command{
		Use:   "source DIR",
		Short: "Write the source of kup's kernel module into a directory",
		Long: `source writes what "kup module build" builds, for DKMS and other ways to build modules. The directory is made if it is missing; files that
are there are not overwritten.`,
		Example: `  kup module source /usr/src/kup-frames-1 && dkms install kup-frames/1`,
		Args:    takes(1, 1, "a directory"),
		RunE: c.verb(func(_ *cobra.Command, args []string) error {
			if err := kup.WriteModuleSource(args[0]); err != nil {
				return err
			}
			return c.print(map[string]string{"source": args[0]}, func(io.Writer) error { return nil })
		}),
	}
}

func (c *command) printModule(w io.Writer, r *kup.ModuleReport) error {
	for _, note := range r.Notes {
		fmt.Fprintf(c.stderr, "note: %s\n", note)
	}
	if c.verbose {
		for _, name := range r.Checked {
			fmt.Fprintf(c.stderr, "Linux %s has %s\n", r.Release, name)
		}
	}
	_, err := fmt.Fprintln(w, r.Path)
	return err
}
