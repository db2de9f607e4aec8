package object

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// epoll handles epoll instances. Registrations with EPOLLET report what is ready once more after a restore, see epoll(7).
var epoll = &Handler{
	Kind:    image.KindEpoll,
	Claims:  func(d *Descriptor) bool { return d.Link == "anon_inode:[eventpoll]" },
	Check:   checkAlone,
	Capture: captureEpoll,
	Settle:  settleEpolls,
	Rebuild: rebuildEpoll,
	Connect: connectEpoll,
}

// captureEpoll does nothing: the files that are watched are looked up when all are known.
func captureEpoll(_ *Capture, _ *Descriptor, f *image.OpenFile) error {
	f.Epoll = &image.Epoll{}
	return nil
}

// watch is a registration as fdinfo shows it (fs/eventpoll.c, ep_show_fdinfo):
//
//	tfd:        6 events:       19 data:                6  pos:0 ino:b061 sdev:f
type watch struct {
	target image.EpollTarget
	inode  inode
	nth    int // among those with the same number
}

func parseWatches(d *Descriptor) ([]watch, error) {
	var all []watch
	count := map[int]int{}
	for _, line := range d.Info.Lines {
		if !strings.HasPrefix(line, "tfd:") {
			continue
		}
		w, err := parseWatch(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %q in /proc: %w", d, line, err)
		}
		w.nth = count[w.target.FD]
		count[w.target.FD]++
		all = append(all, w)
	}
	return all, nil
}

func parseWatch(line string) (w watch, err error) {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ':' })
	number := func(key string, base int) (n uint64) {
		at := slices.Index(words, key) + 1
		if at == 0 || at == len(words) {
			err = cmp.Or(err, fmt.Errorf("there is no %s", key))
			return 0
		}
		n, failed := strconv.ParseUint(words[at], base, 64)
		err = cmp.Or(err, failed)
		return n
	}
	w.target.FD, w.target.Events, w.target.Data = int(number("tfd", 10)), uint32(number("events", 16)), number("data", 16)
	w.inode = inode{dev: userDevice(number("sdev", 16)), ino: number("ino", 16)}
	return w, err
}

// userDevice turns a device number of the kernel (12 bits major, 20 bits minor) into one of stat(2).
func userDevice(dev uint64) uint64 { return kernel.MakeDevice(uint32(dev>>20), uint32(dev&(1<<20-1))) }

func settleEpolls(c *Capture) error {
	s := &watchSearch{byNumber: map[[2]int]*Descriptor{}, byInode: map[inode][]*Descriptor{}}
	for _, d := range c.descriptors {
		s.byNumber[[2]int{d.PID, d.FD}] = d
		key := inode{d.Stat.Dev, d.Stat.Ino}
		s.byInode[key] = append(s.byInode[key], d)
	}
	for _, one := range c.captured {
		if one.file.Kind != image.KindEpoll {
			continue
		}
		watches, err := parseWatches(one.d)
		if err != nil {
			return err
		}
		for _, w := range watches {
			target, err := s.find(one.d, w)
			if err != nil {
				return err
			}
			w.target.File = c.fileOf(target)
			one.file.Epoll.Targets = append(one.file.Epoll.Targets, w.target)
		}
	}
	return nil
}

// watchSearch finds the descriptors that epoll instances watch.
type watchSearch struct {
	byNumber map[[2]int]*Descriptor // process and number
	byInode  map[inode][]*Descriptor
}

// find returns a descriptor for the open file description that a registration means. The number alone proves nothing: it may
// have been closed and used again while a duplicate kept the registration alive.
func (s *watchSearch) find(epfd *Descriptor, w watch) (*Descriptor, error) {
	d := s.byNumber[[2]int{epfd.PID, w.target.FD}]
	if d != nil && (inode{d.Stat.Dev, d.Stat.Ino}) != w.inode {
		d = nil
	}
	// A socket has one description; so the inode settles it, and saves a search of the instance by the kernel.
	if d != nil && w.nth == 0 && strings.HasPrefix(d.Link, "socket:") {
		return d, nil
	}
	candidates := s.byInode[w.inode]
	if d != nil {
		candidates = append([]*Descriptor{d}, candidates...)
	}
	for _, d := range candidates {
		same, err := kernel.WatchesFile(d.PID, d.FD, epfd.PID, epfd.FD, w.target.FD, w.nth)
		if err != nil {
			return nil, fmt.Errorf("%s: what epoll watches as fd %d: %w", epfd, w.target.FD, err)
		}
		if same {
			return d, nil
		}
	}
	return nil, refuse.Errorf("%s is an epoll instance that watches, as fd %d, a file that no process of the application has open any more (it is in flight, or held outside); kup cannot checkpoint that; stop the application",
		epfd, w.target.FD)
}
