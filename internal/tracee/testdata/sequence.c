// Spins in a restartable sequence. Its abort handler counts in the file named by the first argument and begins anew.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR);
	volatile uint64_t *aborts = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (aborts == MAP_FAILED || !__rseq_size)
		return 1;
	char *rseq = (char *)__builtin_thread_pointer() + __rseq_offset;
	printf("ready\n");
	fflush(stdout);
	asm volatile goto(
		".pushsection .data.rseq_cs, \"aw\"\n"
		".balign 32\n"
		"3: .long 0, 0\n"
		".quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"5: lea 3b(%%rip), %%rax\n"
		"mov %%rax, 8(%0)\n"
		"1: pause\n"
		"jmp 1b\n"
		"2: jmp 5b\n"
		".long 0x53053053\n"
		"4: incq (%1)\n"
		"jmp 5b\n"
		: : "r"(rseq), "r"(aborts) : "rax", "memory", "cc" : out);
out:
	return 2;
}
