// Tenant lives in page frames that have come from the kernel before: tenant FRAMES SPARE. The file FRAMES has the physical address of the frame for each
// of its pages, SPARE those of some that are for it to bind itself. It prints "at ADDRESS PAGES SHARED FILE FULL" and reads lines:
//
//	verify           all frames are where they should be, with the contents that they came with
//	write            writes to all pages, which stay where they are
//	check            looks whether the contents are still right
//	live             forks, forgets, is swapped out, collapses, and looks whether it has the memory that it should have
//	watch            binds pages when they are touched, by a userfaultfd of its own
//	interrupt        binds pages while signals come
//	crowd            works in memory that comes in meanwhile
//	end
//
// It answers "ok", or says what is wrong and ends with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kup_frames_uapi.h"

enum { PAGE = 4096, WORDS = PAGE / 8, HUGE = 2 << 20 };

static uint64_t *frames, *spare;
static size_t pages, spares;
static char *mem, *full; // full is an ordinary page
static int pagemap;

static void fail(const char *what, size_t page, uint64_t got, uint64_t want)
{
	printf("%s, page %zu: %#lx instead of %#lx: %s\n", what, page, (long)got, (long)want, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void must(int ok, const char *what)
{
	if (!ok)
		fail(what, 0, 0, 0);
}

// word is number i of the words that the kernel before has written into a frame.
static uint64_t word(uint64_t frame, uint64_t i) { return (frame + i) * 0x9e3779b97f4a7c15; }

static uint64_t *read_list(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY);
	struct stat s;
	must(fd >= 0 && fstat(fd, &s) == 0, path);
	uint64_t *list = malloc(s.st_size + 1);
	must(read(fd, list, s.st_size) == s.st_size, path);
	*n = s.st_size / sizeof(*list);
	close(fd);
	return list;
}

static uint64_t frame_of(const char *address)
{
	uint64_t entry;
	must(pread(pagemap, &entry, 8, (uintptr_t)address / PAGE * 8) == 8, "pagemap");
	return entry >> 63 ? (entry & ((1ull << 55) - 1)) * PAGE : 0;
}

static void check_contents(const char *when, size_t page, uint64_t want)
{
	uint64_t *p = (uint64_t *)(mem + page * PAGE);
	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != word(want, i))
			fail(when, page, p[i], word(want, i));
}

static void check_all(const char *when)
{
	for (size_t i = 0; i < pages; i++)
		check_contents(when, i, frames[i]);
}

// Some pages of the memory are in mappings of another kind at first.
enum { NONE = 4000, READ = 8000, LOCKED = 12000, SOME = 1000 };

static void make_kinds(void)
{
	must(mprotect(mem + NONE * PAGE, SOME * PAGE, PROT_NONE) == 0, "PROT_NONE");
	must(mprotect(mem + READ * PAGE, SOME * PAGE, PROT_READ) == 0, "PROT_READ");
	must(syscall(SYS_mlock2, mem + LOCKED * PAGE, SOME * PAGE, 1 /* MLOCK_ONFAULT */) == 0, "mlock2");
}

static void unmake_kinds(void)
{
	must(mprotect(mem, pages * PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
	must(munlock(mem, pages * PAGE) == 0, "munlock");
}

static uint64_t about(const char *list, uint64_t frame)
{
	uint64_t entry;
	int fd = open(list, O_RDONLY);
	must(fd >= 0 && pread(fd, &entry, 8, frame / PAGE * 8) == 8, list);
	close(fd);
	return entry;
}

// To the kernel, the frames are what an ordinary page of ours is: their flags, how often they are mapped, and whose memory cgroup they are charged to.
static void check_kind(void)
{
	enum { LRU = 1 << 5, UNEVICTABLE = 1 << 18 };
	enum { USE = 1 << 2 | 1 << 4 | 1 << 6 }; // KPF_REFERENCED, KPF_DIRTY, KPF_ACTIVE: change all the time
	enum { BATCHES = 64 };			 // that many pages may wait to be put on their list
	const char *lists[] = { "/proc/kpageflags", "/proc/kpagecount", "/proc/kpagecgroup" };
	for (int l = 0; l < 3; l++) {
		uint64_t change = l == 0 ? USE | LRU : 0, want = about(lists[l], frame_of(full)) & ~change;
		size_t waiting = 0;
		for (size_t i = 0; i < pages; i++) {
			uint64_t got = about(lists[l], frames[i]);
			if (l == 0 && i >= LOCKED && i < LOCKED + SOME) {
				waiting += !(got & UNEVICTABLE);
				continue;
			}
			if ((got & ~change) != want)
				fail(lists[l], i, got, want);
			waiting += l == 0 && !(got & LRU);
		}
		if (waiting > BATCHES)
			fail("not on an LRU list", 0, waiting, 0);
	}
}

static void verify(void)
{
	check_kind();
	unmake_kinds();
	for (size_t i = 0; i < pages; i++)
		if (frame_of(mem + i * PAGE) != frames[i])
			fail("another frame", i, frame_of(mem + i * PAGE), frames[i]);
	check_all("contents");
}

static void write_all(uint64_t change)
{
	for (size_t i = 0; i < pages; i++) {
		uint64_t *p = (uint64_t *)(mem + i * PAGE);
		frames[i] ^= change;
		for (size_t w = 0; w < WORDS; w++)
			p[w] = word(frames[i], w);
	}
}

// Writing makes no copies.
static void write_in_place(void)
{
	write_all(1);
	for (size_t i = 0; i < pages; i++)
		if (frame_of(mem + i * PAGE) != (frames[i] ^ 1))
			fail("not written in place", i, frame_of(mem + i * PAGE), frames[i] ^ 1);
	check_all("written");
}

// Both sides of a fork have the old contents, and write over them without the other's seeing it.
static void fork_and_write(void)
{
	pid_t child = fork();
	must(child >= 0, "fork");
	if (child == 0) {
		check_all("in the child");
		write_all(2);
		check_all("written in the child");
		_exit(0);
	}
	int status;
	must(waitpid(child, &status, 0) == child, "waitpid");
	must(status == 0, "the child");
	check_all("after the child has written");
	write_all(4);
	check_all("written after the fork");
}

static void forget(size_t from, size_t n)
{
	must(madvise(mem + from * PAGE, n * PAGE, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	for (size_t i = from; i < from + n; i++) {
		uint64_t *p = (uint64_t *)(mem + i * PAGE);
		for (size_t w = 0; w < WORDS; w++)
			if (p[w])
				fail("forgotten memory", i, p[w], 0);
		for (size_t w = 0; w < WORDS; w++)
			p[w] = word(frames[i], w);
	}
}

// What began as mappings of several kinds has not become one.
static void move(void)
{
	size_t edges[] = { 0, NONE, NONE + SOME, READ, READ + SOME, LOCKED, LOCKED + SOME, pages };
	char *to = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i + 1 < sizeof(edges) / sizeof(*edges); i++) {
		size_t at = edges[i] * PAGE, size = edges[i + 1] * PAGE - at;
		must(mremap(mem + at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to + at) == to + at, "mremap");
	}
	mem = to;
}

static size_t swapped(void)
{
	size_t n = 0;
	for (size_t i = 0; i < pages; i++) {
		uint64_t entry;
		must(pread(pagemap, &entry, 8, (uintptr_t)(mem + i * PAGE) / PAGE * 8) == 8, "pagemap");
		n += entry >> 62 & 1;
	}
	return n;
}

static void swap_out(void)
{
	if (madvise(mem, pages * PAGE, 21 /* MADV_PAGEOUT */) != 0)
		fail("MADV_PAGEOUT", 0, 0, 0);
	size_t out = swapped();
	if (out < pages / 2)
		fail("pages that are swapped out", 0, out, pages);
	check_all("after MADV_PAGEOUT");
}

static void live(void)
{
	fork_and_write();
	forget(pages / 3, pages / 3);
	check_all("after MADV_DONTNEED");
	swap_out();
	write_all(16); // what is only read is not collapsed
	if (madvise(mem, pages * PAGE, 25 /* MADV_COLLAPSE */) != 0)
		printf("note: MADV_COLLAPSE: %s\n", strerror(errno));
	check_all("after MADV_COLLAPSE");
	must(mprotect(mem, pages * PAGE, PROT_READ) == 0, "mprotect");
	check_all("read only");
	must(mprotect(mem, pages * PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
	move();
	write_all(8);
	check_all("after mremap");
}

static int bind_one(int device, int uffd, char *address, uint64_t frame)
{
	struct kup_frames_run run = { (uintptr_t)address, frame, PAGE };
	struct kup_frames_bind bind = { .fd = uffd, .flags = KUP_FRAMES_UFFD, .runs = (uintptr_t)&run, .count = 1 };
	return ioctl(device, KUP_FRAMES_BIND, &bind) == 0 ? 0 : errno;
}

static void *touch(void *address)
{
	static uint64_t seen;
	seen = *(volatile uint64_t *)address;
	return &seen;
}

static void *drop(void *address) { return (void *)(intptr_t)madvise(address, PAGE, MADV_DONTNEED); }

static struct uffd_msg await(int uffd)
{
	struct uffd_msg m;
	must(read(uffd, &m, sizeof(m)) == sizeof(m), "read of the userfaultfd");
	return m;
}

static void watch(void)
{
	int device = open("/dev/kup-frames", O_RDWR), uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	must(device >= 0 && uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0, "userfaultfd");
	char *area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register watched = { .range = { (uintptr_t)area, 2 * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	must(ioctl(uffd, UFFDIO_REGISTER, &watched) == 0, "UFFDIO_REGISTER");

	pthread_t t;
	void *result;
	pthread_create(&t, NULL, touch, area + PAGE);
	struct uffd_msg m = await(uffd);
	must(m.event == UFFD_EVENT_PAGEFAULT && m.arg.pagefault.address == (uintptr_t)area + PAGE, "fault");
	must(bind_one(device, uffd, area + 2 * PAGE, spare[0]) == ENOENT, "a mapping that is not watched");
	must(bind_one(device, uffd, area + PAGE, spare[0]) == 0, "binding");
	struct uffdio_range woken = { (uintptr_t)area + PAGE, PAGE };
	must(ioctl(uffd, UFFDIO_WAKE, &woken) == 0, "UFFDIO_WAKE");
	pthread_join(t, &result);
	must(*(uint64_t *)result == word(spare[0], 0), "what was touched");
	must(bind_one(device, uffd, area + PAGE, spare[1]) == EEXIST, "a page that is there");

	pthread_create(&t, NULL, drop, area);
	while (bind_one(device, uffd, area + 2 * PAGE, spare[1]) != EAGAIN) // until the event waits
		usleep(1000);
	must(bind_one(device, uffd, area, spare[1]) == EAGAIN, "an event that was not read");
	must(await(uffd).event == UFFD_EVENT_REMOVE, "the event");
	pthread_join(t, &result);
	must(result == NULL, "MADV_DONTNEED");
	must(bind_one(device, uffd, area, spare[1]) == 0, "binding after the event");
	must(*(uint64_t *)area == word(spare[1], 0), "what was bound after the event");
	close(uffd);
	close(device);
}

static void on_alarm(int signal) { (void)signal; }

// Signals come while frames are bound, one run for each, last one first.
static void interrupt(void)
{
	enum { FIRST = 16, END = 1024 };
	size_t n = END - FIRST, bound = 0, interrupted = 0;
	struct kup_frames_run runs[n];
	char *area = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int device = open("/dev/kup-frames", O_RDWR);
	must(device >= 0 && area != MAP_FAILED, "device");
	for (size_t i = 0; i < n; i++)
		runs[i] = (struct kup_frames_run){ (uintptr_t)area + i * PAGE, spare[END - 1 - i], PAGE };
	struct kup_frames_bind bind = { .fd = syscall(SYS_pidfd_open, getpid(), 0), .runs = (uintptr_t)runs, .count = n };
	struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	int err;
	do {
		err = ioctl(device, KUP_FRAMES_BIND, &bind) == 0 ? 0 : errno;
		bound += bind.bound;
		interrupted += err == EINTR;
	} while (err == EINTR);
	setitimer(ITIMER_REAL, &never, NULL);
	must(err == 0, "binding");
	if (bound != n || bind.run != n)
		fail("bound", bind.run, bound, n);
	for (size_t i = 0; i < n; i++)
		if (*(uint64_t *)(area + i * PAGE + 8) != word(runs[i].start, 1) || frame_of(area + i * PAGE) != runs[i].start)
			fail("after signals", i, *(uint64_t *)(area + i * PAGE + 8), word(runs[i].start, 1));
	printf("note: interrupted %zu times\n", interrupted);
	close(bind.fd);
	close(device);
}

// A crowd of threads works in memory that a server binds as it is touched, and a sweeper all the while: nobody may see, or lose, anything else than
// what was in the frames and what the threads have written.
enum { CROWD_FIRST = 1024, THREADS = 4, VISITS = 20000 };
static struct crowd {
	int device, uffd;
	char *area;
	size_t n;
	uint64_t *visits[THREADS]; // of each page
} crowd;

static void *visit(void *arg)
{
	size_t me = (size_t)arg;
	uint64_t random = me + 1;
	for (int i = 0; i < VISITS; i++) {
		random = random * 6364136223846793005 + 1442695040888963407;
		size_t page = (random >> 33) % crowd.n;
		volatile uint64_t *p = (uint64_t *)(crowd.area + page * PAGE);
		uint64_t frame = spare[CROWD_FIRST + page];
		if (p[me] != word(frame, me) + crowd.visits[me][page] || p[WORDS - 1] != word(frame, WORDS - 1))
			fail("in the crowd", page, p[me], word(frame, me) + crowd.visits[me][page]);
		p[me]++;
		crowd.visits[me][page]++;
	}
	return NULL;
}

static void wake(size_t page)
{
	struct uffdio_range woken = { (uintptr_t)crowd.area + page * PAGE, PAGE };
	must(ioctl(crowd.uffd, UFFDIO_WAKE, &woken) == 0, "UFFDIO_WAKE");
}

// bring binds a page, if nobody else has done or is doing that.
static void bring(size_t page)
{
	int err = bind_one(crowd.device, crowd.uffd, crowd.area + page * PAGE, spare[CROWD_FIRST + page]);
	if (err && err != EBUSY && err != EEXIST)
		fail("binding in the crowd", page, err, 0);
	wake(page);
}

static void *serve(void *arg)
{
	(void)arg;
	for (;;) {
		struct uffd_msg m = await(crowd.uffd);
		must(m.event == UFFD_EVENT_PAGEFAULT, "fault");
		if (m.arg.pagefault.address == (uintptr_t)crowd.area + crowd.n * PAGE)
			return NULL; // the last page is only touched to end this
		bring((m.arg.pagefault.address - (uintptr_t)crowd.area) / PAGE);
	}
}

static void *sweep(void *arg)
{
	(void)arg;
	for (size_t page = 0; page < crowd.n; page++)
		bring(page);
	return NULL;
}

static void work_in_a_crowd(void)
{
	crowd.n = spares - CROWD_FIRST;
	crowd.device = open("/dev/kup-frames", O_RDWR);
	crowd.uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API };
	crowd.area = mmap(NULL, (crowd.n + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register watched = { .range = { (uintptr_t)crowd.area, (crowd.n + 1) * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	must(crowd.device >= 0 && ioctl(crowd.uffd, UFFDIO_API, &api) == 0 && ioctl(crowd.uffd, UFFDIO_REGISTER, &watched) == 0, "userfaultfd");
	pthread_t threads[THREADS], server, sweeper, last;
	pthread_create(&server, NULL, serve, NULL);
	for (size_t i = 0; i < THREADS; i++) {
		crowd.visits[i] = calloc(crowd.n, 8);
		pthread_create(&threads[i], NULL, visit, (void *)i);
	}
	usleep(2000);
	pthread_create(&sweeper, NULL, sweep, NULL);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(sweeper, NULL);
	pthread_create(&last, NULL, touch, crowd.area + crowd.n * PAGE);
	pthread_join(server, NULL);
	close(crowd.uffd); // which lets the last one go
	pthread_join(last, NULL);
	for (size_t page = 0; page < crowd.n; page++)
		for (size_t i = 0; i < THREADS; i++) {
			uint64_t got = ((uint64_t *)(crowd.area + page * PAGE))[i], want = word(spare[CROWD_FIRST + page], i) + crowd.visits[i][page];
			if (got != want)
				fail("after the crowd", page, got, want);
		}
	close(crowd.device);
}

int main(int argc, char **argv)
{
	must(argc == 3, "usage");
	frames = read_list(argv[1], &pages);
	spare = read_list(argv[2], &spares);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	must(pagemap >= 0, "pagemap");
	// At an odd place, and with room for huge pages.
	mem = mmap((char *)0x200000000000 + 3 * PAGE, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	void *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, open(argv[1], O_RDONLY), 0);
	full = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(mem != MAP_FAILED && shared != MAP_FAILED && file != MAP_FAILED && full != MAP_FAILED, "mmap");
	full[0] = 1;
	make_kinds();
	printf("at %lu %zu %lu %lu %lu\n", (long)mem, pages, (long)shared, (long)file, (long)full);
	fflush(stdout);

	char line[64];
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "end\n"))
			return 0;
		if (!strcmp(line, "verify\n"))
			verify();
		else if (!strcmp(line, "write\n"))
			write_in_place();
		else if (!strcmp(line, "check\n"))
			check_all("looked at again");
		else if (!strcmp(line, "live\n"))
			live();
		else if (!strcmp(line, "watch\n"))
			watch();
		else if (!strcmp(line, "interrupt\n"))
			interrupt();
		else if (!strcmp(line, "crowd\n"))
			work_in_a_crowd();
		else
			fail(line, 0, 0, 0);
		printf("ok\n");
		fflush(stdout);
	}
	return 1;
}
