// A private file mapping with clean and dirty pages: the dirty ones are ours, the clean ones the file's.
#include "../check.h"

enum { PAGES = 64 };

int main(int argc, char **argv) {
    begin(argc, argv);
    int fd = SYS(open(work_path("mapped"), O_RDWR | O_CREAT | O_TRUNC, 0644));
    uint8_t page[PAGE];
    for (int i = 0; i < PAGES + 2; i++) {
        fill(page, PAGE, 1000 + i);
        SYS(write(fd, page, PAGE));
    }
    uint8_t *p = SYS(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE));
    uint8_t *readonly = SYS(mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    close(fd);
    for (int i = 1; i < PAGES; i += 2) fill(p + i * PAGE, PAGE, 5000 + i);
    ready();
    while (!finishing()) {
        for (int i = 0; i < PAGES; i++) {
            verify(i % 2 ? "dirty page" : "clean page", p + i * PAGE, PAGE, i % 2 ? 5000 + i : 1002 + i);
            verify("page of the read-only mapping", readonly + i * PAGE, PAGE, 1000 + i);
        }
        nap(5);
    }
    fd = SYS(open(work_path("mapped"), O_RDWR));
    for (int i = 0; i < PAGES + 2; i++) {
        SYS(pread(fd, page, PAGE, i * PAGE));
        verify("page of the file", page, PAGE, 1000 + i);
    }
    SYS(madvise(p + PAGE, PAGE, MADV_DONTNEED));
    verify("dropped page, the file's again", p + PAGE, PAGE, 1003);
    return ok();
}
