package tracee

import (
	"encoding/binary"

	"github.com/kup-project/kup/internal/kernel"
)

const (
	seedBase    = 0x10000 // where the seed's only page of its own is loaded
	seedHeaders = 64 + 56 // ELF header and one program header
	seedEntry   = seedBase + seedHeaders
	seedSyscall = seedEntry + 9 // `syscall; int3`
)

// seedELF returns a static executable of a pause loop, followed by one `syscall; int3` for the tracer's use.
func seedELF() []byte {
	code := []byte{
		0xb8, 34, 0, 0, 0, // mov eax, SYS_pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the start
		0x0f, 0x05, 0xcc, // syscall; int3
	}
	size := uint64(seedHeaders + len(code))
	le := binary.LittleEndian
	elf := make([]byte, seedHeaders, size)
	copy(elf, "\x7fELF\x02\x01\x01")  // 64 bit, little endian, version 1
	le.PutUint16(elf[16:], 2)         // ET_EXEC
	le.PutUint16(elf[18:], 62)        // EM_X86_64
	le.PutUint32(elf[20:], 1)         // version
	le.PutUint64(elf[24:], seedEntry) // entry
	le.PutUint64(elf[32:], 64)        // program headers
	le.PutUint16(elf[52:], 64)        // size of this header
	le.PutUint16(elf[54:], 56)        // size of a program header
	le.PutUint16(elf[56:], 1)         // program headers
	ph := elf[64:]
	le.PutUint32(ph, 1)             // PT_LOAD
	le.PutUint32(ph[4:], 5)         // PF_R | PF_X
	le.PutUint64(ph[16:], seedBase) // virtual address
	le.PutUint64(ph[24:], seedBase) // physical address
	le.PutUint64(ph[32:], size)     // in the file
	le.PutUint64(ph[40:], size)     // in memory
	le.PutUint64(ph[48:], 0x1000)   // alignment
	return append(elf, code...)
}

// tableLoop executes rbp entries of the table at rbx (batch.go has the layout) and ends in int3.
func tableLoop() []byte {
	return []byte{
		0x48, 0x8b, 0x03, // mov rax, [rbx]
		0x48, 0x8b, 0x7b, 8, // mov rdi, [rbx+8]
		0x48, 0x8b, 0x73, 16, // mov rsi, [rbx+16]
		0x48, 0x8b, 0x53, 24, // mov rdx, [rbx+24]
		0x4c, 0x8b, 0x53, 32, // mov r10, [rbx+32]
		0x4c, 0x8b, 0x43, 40, // mov r8, [rbx+40]
		0x4c, 0x8b, 0x4b, 48, // mov r9, [rbx+48]
		0x0f, 0x05, // syscall
		0x48, 0x8b, 0x4b, 56, // mov rcx, [rbx+56]
		0x48, 0x89, 0x01, // mov [rcx], rax
		0x48, 0x8b, 0x4b, 64, // mov rcx, [rbx+64]
		0x48, 0x89, 0x01, // mov [rcx], rax
		0x48, 0x83, 0xc3, entrySize, // add rbx, 72
		0xff, 0xcd, // dec ebp
		0x75, 0xcd, // jnz to the start
		0xcc, // int3
	}
}

// setCall prepares registers for one system call by the instruction at addr.
func setCall(r *kernel.Regs, addr, nr uint64, args [6]uint64) {
	r.Rip, r.Rax, r.Orig_rax = addr, nr, ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = args[0], args[1], args[2], args[3], args[4], args[5]
}

// setLoop prepares registers for tableLoop.
func setLoop(r *kernel.Regs, code, table uint64, count int) {
	r.Rip, r.Rbx, r.Rbp, r.Orig_rax = code, table, uint64(count), ^uint64(0)
}
