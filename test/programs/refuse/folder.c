// A working directory that nobody can find any more.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    char *folder = work_path("folder");
    SYS(mkdir(folder, 0700));
    SYS(chdir(folder));
    SYS(rmdir(folder));
    ready();
    while (!finishing()) nap(10);
    return ok();
}
