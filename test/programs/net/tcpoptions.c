// The options that applications set on TCP sockets.
#include "net.h"

static const struct {
    const char *name;
    int level, option, value;
} options[] = {
    {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
    {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 11},
    {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 5},
    {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 54321},
    {"TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, 17},
    {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, 4},
    {"TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384},
    {"TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP, 200000},
    {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
    {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1},
    {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
    {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 3},
    {"SO_MARK", SOL_SOCKET, SO_MARK, 42},
    {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 3},
    {"SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, 50},
    {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 150000},
    {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 120000},
    {"IP_TOS", IPPROTO_IP, IP_TOS, 0x10},
    {"IP_TTL", IPPROTO_IP, IP_TTL, 33},
    {"IP_MTU_DISCOVER", IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO},
};
enum { N = sizeof options / sizeof *options };

int main(int argc, char **argv) {
    begin(argc, argv);
    int ends[2], plain[2], six[2], want[N], by_default[N];
    tcp_pair(AF_INET, ends);
    tcp_pair(AF_INET, plain);
    tcp_pair(AF_INET6, six);
    for (int i = 0; i < N; i++) {
        set_option(ends[0], options[i].level, options[i].option, options[i].value);
        want[i] = option(ends[0], options[i].level, options[i].option);
        by_default[i] = option(plain[0], options[i].level, options[i].option);
    }
    // Setting one option may change another's value, e.g. SO_PRIORITY after IP_TOS.
    for (int i = 0; i < N; i++) want[i] = option(ends[0], options[i].level, options[i].option);
    set_option(six[0], IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    set_option(six[0], IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
    SYS(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &(struct linger){1, 13}, sizeof(struct linger)));
    SYS(setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){7, 0}, sizeof(struct timeval)));
    SYS(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){8, 500000}, sizeof(struct timeval)));
    SYS(setsockopt(ends[0], IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    SYS(setsockopt(ends[0], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    ready();
    while (!finishing()) {
        char message[64];
        for (int i = 0; i < N; i++) {
            CHECK_EQ(options[i].name, want[i], option(ends[0], options[i].level, options[i].option));
            snprintf(message, sizeof message, "%s, never set", options[i].name);
            bool buffer = options[i].level == SOL_SOCKET && (options[i].option == SO_SNDBUF || options[i].option == SO_RCVBUF);
            if (!buffer) CHECK_EQ(message, by_default[i], option(plain[0], options[i].level, options[i].option));
        }
        CHECK_EQ("IPV6_TCLASS", 0x20, option(six[0], IPPROTO_IPV6, IPV6_TCLASS));
        CHECK_EQ("IPV6_UNICAST_HOPS", 44, option(six[0], IPPROTO_IPV6, IPV6_UNICAST_HOPS));
        struct linger linger;
        struct timeval t;
        char name[32] = {0};
        socklen_t n = sizeof linger;
        SYS(getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, &n));
        CHECK(linger.l_onoff == 1 && linger.l_linger == 13, "SO_LINGER, expected 1 and 13, got %d and %d", linger.l_onoff, linger.l_linger);
        n = sizeof t;
        SYS(getsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &t, &n));
        CHECK_EQ("SO_SNDTIMEO in s", 7, t.tv_sec);
        n = sizeof t;
        SYS(getsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &t, &n));
        CHECK(t.tv_sec == 8 && t.tv_usec == 500000, "SO_RCVTIMEO, expected 8.5 s, got %ld.%06ld", t.tv_sec, t.tv_usec);
        n = sizeof name;
        SYS(getsockopt(ends[0], IPPROTO_TCP, TCP_CONGESTION, name, &n));
        CHECK(strcmp(name, "reno") == 0, "TCP_CONGESTION, expected reno, got %s", name);
        n = sizeof name;
        SYS(getsockopt(ends[0], SOL_SOCKET, SO_BINDTODEVICE, name, &n));
        CHECK(strcmp(name, "lo") == 0, "SO_BINDTODEVICE, expected lo, got %s", name);
        struct tcp_info info, other;
        n = sizeof info;
        SYS(getsockopt(plain[0], IPPROTO_TCP, TCP_INFO, &info, &n));
        n = sizeof other;
        SYS(getsockopt(plain[1], IPPROTO_TCP, TCP_INFO, &other, &n));
        CHECK(info.tcpi_state == TCP_ESTABLISHED && other.tcpi_state == TCP_ESTABLISHED, "state, expected established, got %d and %d", info.tcpi_state, other.tcpi_state);
        CHECK((info.tcpi_options & 7) == 7, "options agreed on, expected timestamps, SACK and window scaling, got %#x", info.tcpi_options);
        CHECK_EQ("window scales of the two ends", info.tcpi_snd_wscale, other.tcpi_rcv_wscale);
        nap(5);
    }
    char got[16];
    send_all(ends[1], "three", 5);
    receive_all("connection with options", ends[0], got, 5);
    return ok();
}
