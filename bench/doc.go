// Command bench measures kup, and writes tables, numbers and plots: `make bench` into docs/bench.
//
// It has two parts, which -part chooses:
//
//   - native: checkpoints and restores on this machine, and what pre-copy costs besides its time. Figures are medians. Targets are for a
//     machine with two processors; how fast memory can be copied here is measured in the same run, so that ratios can be compared between
//     machines. Results: native.json, native.md.
//   - guests: changes of the kernel in QEMU guests, as a memcached's clients see them. A guest is emulated: its times are long, and only
//     to be compared with one another. Results: update.json, update.md.
//
// With -part plots, tables and plots are made again from the numbers of former runs.
//
// Where what is:
//
//	subjects.go, subject/  applications that are measured natively
//	native.go              their checkpoints and restores
//	native_precopy.go      restores after many rounds of pre-copy, and what clients notice of it
//	guests_plan.go         the variants of an update, and which of them are measured with which memory and load
//	guests.go              one update in one guest
//	guests_curve.go        answers over time
//	guests_bare.go         the next kernel by itself, and updates in a row
//	*_results.go           numbers and tables
//	*_plot.go, plot.go     plots
//	bench.go, machine.go   what all have in common: the program, medians, where results come from
package main
