// A family that never rests: processes fork all the time, children and grandchildren verify what they have inherited and write to it, each on copies of
// their own, and end with an exit code that says what they saw.
#include "../check.h"

enum { PAGES = 4096, CHILDREN = 3, RENEWED = 64, CODES = 251 };

static uint8_t *pages; // inherited by all, written by all
static uint64_t seeds[PAGES];
static uint64_t random_state = 1, next;

static void renew(const char *who, unsigned count) {
    for (unsigned n = 0; n < count; n++) {
        unsigned i = dice(&random_state, PAGES);
        check_words(who, pages + i * PAGE, PAGE, seeds[i]);
        put_words(pages + i * PAGE, PAGE, seeds[i] = ++next);
    }
}

static void check_all(const char *who) {
    for (unsigned i = 0; i < PAGES; i++) check_words(who, pages + i * PAGE, PAGE, seeds[i]);
}

// code_of_memory sums up what the memory holds, code_of_seeds what it should hold. 0 is no code, nor are those of fail and of the shell.
static int code_of_memory(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < PAGES; i++) sum = sum * 31 + ((uint64_t *)(pages + i * PAGE))[i % (PAGE / 8)];
    return 2 + sum % CODES;
}

static int code_of_seeds(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < PAGES; i++) sum = sum * 31 + word(seeds[i], i % (PAGE / 8));
    return 2 + sum % CODES;
}

static int grandchild(void *arg) {
    (void)arg;
    int code = code_of_memory();
    renew("a grandchild", RENEWED / 2);
    CHECK_EQ("sum of what a grandchild has written", code_of_seeds(), code_of_memory());
    return code;
}

// in_child answers with the sum of what it has inherited, whatever it and a child of its own write meanwhile.
static int in_child(void *arg) {
    (void)arg;
    int inherited = code_of_memory();
    random_state ^= (uint64_t)getpid() << 32;
    renew("a child", RENEWED);
    int expected = code_of_seeds();
    pid_t own = child(grandchild, NULL);
    renew("a child with a child", RENEWED);
    CHECK_EQ("exit code of a grandchild", expected, exited(own, "grandchild"));
    check_all("a child");
    return inherited;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pages = map_anon(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (unsigned i = 0; i < PAGES; i++) put_words(pages + i * PAGE, PAGE, seeds[i] = ++next);
    struct {
        pid_t pid;
        int code;
    } children[CHILDREN] = {0};
    ready();
    for (unsigned n = 0; !finishing(); n = (n + 1) % CHILDREN) {
        if (children[n].pid) CHECK_EQ("exit code of a child", children[n].code, exited(children[n].pid, "child"));
        children[n].code = code_of_seeds();
        children[n].pid = child(in_child, NULL);
        renew("the parent", RENEWED);
    }
    for (unsigned n = 0; n < CHILDREN; n++)
        if (children[n].pid) CHECK_EQ("exit code of a child", children[n].code, exited(children[n].pid, "child"));
    check_all("the parent");
    return ok();
}
