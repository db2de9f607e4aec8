// A namespace of its own; which, is compiled in.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    SYS(unshare(NAMESPACE));
    ready();
    while (!finishing()) nap(10);
    return ok();
}
