// A shared file mapping: what is written to it is in the file, and the other way round.
#include "../check.h"

enum { SIZE = 1 << 20 };

int main(int argc, char **argv) {
    begin(argc, argv);
    int fd = SYS(open(work_path("mapped"), O_RDWR | O_CREAT | O_TRUNC, 0644));
    SYS(ftruncate(fd, SIZE + PAGE));
    uint8_t *p = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE));
    fill(p, SIZE / 2, 1);
    ready();
    for (uint64_t count = 1; !finishing(); count++) {
        uint64_t got;
        verify("shared mapping", p, SIZE / 2, 1);
        *(volatile uint64_t *)(p + SIZE - 8) = count;
        int other = SYS(open(work_path("mapped"), O_RDWR));
        SYS(pread(other, &got, 8, PAGE + SIZE - 8));
        CHECK_EQ("word of the file, written through the mapping", count, got);
        SYS(pwrite(fd, &count, 8, PAGE + SIZE - 16));
        CHECK_EQ("word of the mapping, written through the file", count, *(volatile uint64_t *)(p + SIZE - 16));
        close(other);
        nap(5);
    }
    SYS(msync(p, SIZE, MS_SYNC));
    return ok();
}
