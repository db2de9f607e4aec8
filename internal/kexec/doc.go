// Package kexec starts another kernel from the running one, on x86-64, by kexec_load(2).
//
// Check tells what stands in the way, Load puts the next kernel into the running one's keeping, Jump starts it. All three of kernel image,
// boot parameters and memory layout are ours, because KUP has things to tell the next kernel that kexec_file_load(2) has no words for.
//
// Words:
//
//   - Image: a distribution's kernel file (vmlinuz), a bzImage: a setup header that describes it, and protected-mode code, which is a small
//     decompressor with the payload, the packed vmlinux ELF.
//   - Route: RouteVmlinux enters the vmlinux, which was unpacked before anything stopped. RouteBzImage enters the decompressor.
//   - boot_params, or zero page: what a boot loader tells a kernel. We are the boot loader.
//   - setup_data: a linked list behind the zero page for what does not fit in there.
//   - memory map (e820): which physical memory there is, and what for. It is passed on as the running kernel got it from its own boot loader.
//   - segment: a piece of memory of the next kernel. The running kernel keeps it elsewhere and copies it to its place in the jump; until
//     then, its place may be in use.
//   - trampoline: the first instructions after the jump. They enter the next kernel in the state that its boot protocol asks for.
//
// Invariants: nothing is placed in the first megabyte or in memory that the firmware keeps; the kernel owns as much memory as its
// header asks for, so that neither initrd nor boot parameters are overwritten; damaged images are refused by Check and never panic.
//
// Machines booted by EFI keep their runtime services. Refused: EFI whose runtime services the running kernel does not use, 32-bit
// EFI, confidential guests (TDX, SEV-SNP).
package kexec
