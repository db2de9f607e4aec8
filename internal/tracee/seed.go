package tracee

// Seed is a task under construction; see the package comment.
type Seed struct {
	tracer *Tracer
	pid    int // of the process
	tid    int
	area   uint64
	size   int
}

// PID returns the process that the seed is a thread of.
func (s *Seed) PID() int { return s.pid }

// Area is where tables of system calls stand in the seed's memory.
func (s *Seed) Area() (addr uint64, size int) { return s.area, s.size }
