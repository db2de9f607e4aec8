// Names of anonymous mappings, PR_SET_VMA_ANON_NAME (Linux 5.17, with CONFIG_ANON_VMA_NAME).
#include "../check.h"
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static bool named(const void *p, const char *name) {
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512], start[32];
    bool found = false;
    snprintf(start, sizeof start, "%lx-", (unsigned long)p);
    while (fgets(line, sizeof line, f)) found = found || (strncmp(line, start, strlen(start)) == 0 && strstr(line, name));
    fclose(f);
    return found;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(p, 4 * PAGE, 1);
    bool names = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, 4 * PAGE, "cache of things") == 0;
    if (!names) lacks("names of anonymous mappings (prctl PR_SET_VMA_ANON_NAME gives EINVAL)");
    ready();
    while (!finishing()) {
        verify("named mapping", p, 4 * PAGE, 1);
        CHECK(!names || named(p, "[anon:cache of things]"), "the mapping has lost its name");
        nap(10);
    }
    return ok();
}
