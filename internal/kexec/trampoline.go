package kexec

import "encoding/binary"

// Selectors that the 64-bit boot protocol wants to find: __BOOT_CS and __BOOT_DS.
const (
	bootCS = 0x10
	bootDS = 0x18
)

const (
	trampolineSize = pageSize

	// The page of the trampoline: code, descriptor table, and the stack that grows down from its end.
	trampolineGDT = 0x100
	gdtSize       = 4 * 8
)

// Descriptors of a flat address space, as the 64-bit boot protocol demands them (boot.rst).
const (
	gdtCode64 = 0x00af9a000000ffff
	gdtData   = 0x00cf92000000ffff
)

// trampoline returns the page of code that the running kernel jumps to, for the physical address at. It makes the machine what the 64-bit
// boot protocol asks for, flat segments and rsi with the address of boot_params, and enters the next kernel. The running kernel jumps in
// 64-bit mode, with memory mapped at its physical addresses and interrupts off (arch/x86/kernel/relocate_kernel_64.S).
func trampoline(at, entry, params uint64) []byte {
	le := binary.LittleEndian
	page := make([]byte, trampolineSize)

	le.PutUint64(page[trampolineGDT+bootCS:], gdtCode64)
	le.PutUint64(page[trampolineGDT+bootDS:], gdtData)
	gdtr := page[trampolineGDT+gdtSize:]
	le.PutUint16(gdtr, gdtSize-1)
	le.PutUint64(gdtr[2:], at+trampolineGDT)

	var code []byte
	op := func(bytes ...byte) { code = append(code, bytes...) }
	imm := func(n uint64) { code = le.AppendUint64(code, n) }
	op(0xfa, 0xfc) // cli; cld
	op(0x48, 0xbc) // mov rsp, end of the page
	imm(at + trampolineSize)
	op(0x48, 0xb8) // mov rax, address of limit and base of the descriptor table
	imm(at + trampolineGDT + gdtSize)
	op(0x0f, 0x01, 0x10)       // lgdt [rax]
	op(0xb8, bootDS, 0, 0, 0)  // mov eax, __BOOT_DS
	op(0x8e, 0xd8, 0x8e, 0xc0) // mov ds, eax; mov es, eax
	op(0x8e, 0xd0)             // mov ss, eax
	op(0x8e, 0xe0, 0x8e, 0xe8) // mov fs, eax; mov gs, eax
	op(0x48, 0xbe)             // mov rsi, boot_params
	imm(params)
	op(0x31, 0xed, 0x31, 0xff) // xor ebp, ebp; xor edi, edi
	op(0x31, 0xdb)             // xor ebx, ebx
	op(0x48, 0xb8)             // mov rax, entry
	imm(entry)
	op(0x6a, bootCS, 0x50) // push __BOOT_CS; push rax
	op(0x48, 0xcb)         // retfq
	copy(page[:trampolineGDT], code)
	return page
}
