package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kup-project/kup"
)

func (c *command) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Tell what kup can do on the running kernel",
		Long: `check tries out, harmlessly, each feature of the running kernel that kup makes use of: on itself, or on a child that it
starts for the purpose. It never goes by the kernel's version. It tells which jobs are possible, which are not and why, and
which are possible except for some applications. With -v it also says how each feature was tried.

The exit code is 0 if checkpoint and restore are possible, else 1.`,
		Args: takes(0, 0, ""),
		RunE: c.verb(func(*cobra.Command, []string) error {
			report := kup.Check()
			if err := c.print(report, func(w io.Writer) error { return c.printCheck(w, report) }); err != nil {
				return err
			}
			if !report.Main() {
				return errors.New("this kernel does not allow checkpoint and restore")
			}
			return nil
		}),
	}
}

func (c *command) printCheck(w io.Writer, r *kup.CheckReport) error {
	fmt.Fprintf(w, "Linux %s, lockdown: %s\n\n", r.Kernel, r.Lockdown)
	for _, j := range r.Jobs {
		answer := "no "
		if j.Possible {
			answer = "yes"
		}
		fmt.Fprintf(w, "%s  %-10s  %s", answer, j.Name, j.Text)
		if j.Way != "" {
			fmt.Fprintf(w, " (by %s)", j.Way)
		}
		fmt.Fprintln(w)
		for _, m := range j.Missing {
			fmt.Fprintf(w, "                 %s\n", m)
		}
		for _, l := range j.Limits {
			fmt.Fprintf(w, "                 but %s\n", l)
		}
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, f := range r.Features {
		row := []string{f.Name, f.State, f.Since, f.Use}
		if c.verbose {
			row = append(row, f.How)
		}
		rows = append(rows, row)
	}
	head := "FEATURE STATE SINCE USE"
	if c.verbose {
		head += " TRIED"
	}
	return table(w, head, rows)
}
