// A mapping of a device whose descriptor is closed: the ring of a packet socket, which is the kernel's memory.
#include "../check.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    int fd = SYS(socket(AF_PACKET, SOCK_RAW, 0));
    struct tpacket_req r = {.tp_block_size = PAGE, .tp_block_nr = 2, .tp_frame_size = 2048, .tp_frame_nr = 4};
    SYS(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
    void *p = SYS(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    say("address %lx", (long)p);
    ready();
    while (!finishing()) nap(10);
    return ok();
}
