package memory

import "encoding/binary"

// jumpTo is `movabs r11, target; jmp r11`: r11 is free at the entry of a function.
func jumpTo(target uint64) []byte {
	code := binary.LittleEndian.AppendUint64([]byte{0x49, 0xbb}, target)
	return append(code, 0x41, 0xff, 0xe3)
}

// vdsoStub is what stands in for a function that the running kernel's vdso lacks, nil if the old code can stay.
//
// __vdso_getrandom (since v6.11) is asked for its parameters with opaque_len, in r8, of -1: answering -ENOSYS makes the C library
// use the system call from then on. Callers that know the parameters already get the system call's result.
func vdsoStub(name string) []byte {
	if name != "__vdso_getrandom" {
		return nil
	}
	return []byte{
		0x49, 0x83, 0xf8, 0xff, // cmp r8, -1
		0x74, 0x08, // je +8
		0xb8, 0x3e, 0x01, 0x00, 0x00, // mov eax, SYS_getrandom (318)
		0x0f, 0x05, // syscall
		0xc3,                                     // ret
		0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, // mov rax, -ENOSYS
		0xc3, // ret
	}
}

// instructionPointer reads rip out of a struct user_regs_struct.
func instructionPointer(regs []byte) uint64 {
	const rip = 16 * 8
	if len(regs) < rip+8 {
		return 0
	}
	return binary.LittleEndian.Uint64(regs[rip:])
}

// syscallInstruction finds a system call instruction in machine code.
func syscallInstruction(code []byte) (offset int, ok bool) {
	for i := 0; i+1 < len(code); i++ {
		if code[i] == 0x0f && code[i+1] == 0x05 {
			return i, true
		}
	}
	return 0, false
}
