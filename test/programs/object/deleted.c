// Files that are deleted but open: with content, replaced by another file of the same name, O_TMPFILE, and with MAPPED,
// mapped.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t content[50000], got[50000];
    fill(content, sizeof content, 1);
    int gone = SYS(open(work_path("gone"), O_RDWR | O_CREAT | O_TRUNC, 0640));
    SYS(write(gone, content, sizeof content));
    int duplicate = SYS(dup(gone)), second = SYS(open(work_path("gone"), O_RDONLY));
#ifdef MAPPED
    uint8_t *mapped = SYS(mmap(NULL, sizeof content, PROT_READ | PROT_WRITE, MAP_SHARED, gone, 0));
#endif
    SYS(unlink(work_path("gone")));
    SYS(lseek(gone, 100, SEEK_SET));
    int replaced = SYS(open(work_path("replaced"), O_RDWR | O_CREAT | O_TRUNC, 0600));
    SYS(write(replaced, content, 1000));
    SYS(unlink(work_path("replaced")));
    int successor = SYS(open(work_path("replaced"), O_RDWR | O_CREAT | O_TRUNC, 0600));
    SYS(write(successor, "successor", 9));
    int nameless = open(work_dir, O_RDWR | O_TMPFILE, 0600);
    if (nameless == -1) lacks("O_TMPFILE on this file system");
    else SYS(write(nameless, content, 2000));
    ready();
    while (!finishing()) {
        struct stat s;
        SYS(fstat(gone, &s));
        CHECK_EQ("links of the deleted file", 0, s.st_nlink);
        CHECK_EQ("size of the deleted file", sizeof content, s.st_size);
        CHECK_EQ("mode of the deleted file", 0640, s.st_mode & 0777);
        CHECK_EQ("offset of the deleted file", 100, lseek(duplicate, 0, SEEK_CUR));
        CHECK_EQ("offset of its second description", 0, lseek(second, 0, SEEK_CUR));
        SYS(pread(second, got, sizeof got, 0));
        CHECK(memcmp(content, got, sizeof got) == 0, "content of the deleted file changed");
#ifdef MAPPED
        CHECK(memcmp(content, mapped, sizeof content) == 0, "mapping of the deleted file changed");
#endif
        SYS(pread(replaced, got, 1000, 0));
        CHECK(memcmp(content, got, 1000) == 0, "content of the replaced file changed");
        SYS(pread(successor, got, 9, 0));
        CHECK(memcmp(got, "successor", 9) == 0, "the successor of the replaced file has another content");
        if (nameless != -1) {
            SYS(pread(nameless, got, 2000, 0));
            CHECK(memcmp(content, got, 2000) == 0, "content of the nameless file changed");
        }
        CHECK(access(work_path("gone"), F_OK) == -1, "the deleted file has its name back");
        nap(5);
    }
#ifdef MAPPED
    mapped[7] ^= 1;
    SYS(pread(gone, got, 8, 0));
    CHECK_EQ("byte of the deleted file, written through the mapping", mapped[7], got[7]);
#endif
    return ok();
}
