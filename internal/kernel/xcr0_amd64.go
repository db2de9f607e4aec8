package kernel

// XCR0 returns the XSAVE features that the operating system has enabled on this CPU, as XGETBV gives them; 0 if the CPU
// has no XSAVE. See Intel's Software Developer's Manual, volume 1, chapter 13.
func XCR0() uint64
