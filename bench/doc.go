// Command bench measures checkpoints and restores on this machine, and writes a table, the numbers and plots.
//
// Every figure is the median of several rounds. Targets are for a machine with two processors; how fast memory can be copied here is measured in
// the same run, so that ratios can be compared between machines.
package main
