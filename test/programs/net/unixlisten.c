// Listening unix sockets, by path and abstract: accepted connections, and the name still takes new ones.
#include "net.h"

struct server {
    const char *name;
    int type, listener, client, accepted;
    struct names listening, connected, served;
};

static int dial(struct server *s) {
    socklen_t n;
    union address a = named(s->name, &n);
    int fd = SYS(socket(AF_UNIX, s->type, 0));
    SYS(connect(fd, &a.any, n));
    return fd;
}

static void set_up(struct server *s) {
    socklen_t n;
    union address a = named(s->name, &n);
    if (*s->name == '/') unlink(s->name);
    s->listener = SYS(socket(AF_UNIX, s->type, 0));
    SYS(bind(s->listener, &a.any, n));
    SYS(listen(s->listener, 7));
    s->client = dial(s);
    s->accepted = SYS(accept(s->listener, NULL, NULL));
    SYS(send(s->client, "hello", 5, 0));
    s->listening = names_of(s->listener), s->connected = names_of(s->client), s->served = names_of(s->accepted);
}

static void check_server(struct server *s) {
    same_names("the listener", &s->listening, s->listener);
    same_names("the client", &s->connected, s->client);
    same_names("the accepted connection", &s->served, s->accepted);
    CHECK_EQ("SO_ACCEPTCONN", 1, option(s->listener, SOL_SOCKET, SO_ACCEPTCONN));
    CHECK_EQ("queued bytes", 5, queued(s->accepted));
}

static void use(struct server *s) {
    char got[16];
    receive_all("the old connection", s->accepted, got, 5);
    CHECK(memcmp(got, "hello", 5) == 0, "data of the old connection changed");
    int fresh = dial(s), answer = SYS(accept(s->listener, NULL, NULL));
    SYS(send(fresh, "new", 3, 0));
    receive_all("the new connection", answer, got, 3);
    close(fresh);
    CHECK_EQ("end of file of the new connection", 0, recv(answer, got, 1, 0));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    char abstract[64];
    snprintf(abstract, sizeof abstract, "@kup test %d", getpid());
    struct server servers[] = {{.name = work_path("stream"), .type = SOCK_STREAM}, {.name = work_path("seqpacket"), .type = SOCK_SEQPACKET}, {.name = abstract, .type = SOCK_STREAM}};
    for (int i = 0; i < 3; i++) set_up(&servers[i]);
    ready();
    while (!finishing()) {
        for (int i = 0; i < 3; i++) check_server(&servers[i]);
        nap(5);
    }
    for (int i = 0; i < 3; i++) use(&servers[i]);
    return ok();
}
