package pageserver

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// Verb is the word on kup's command line that makes it a page server.
const Verb = "page-server"

// Server is a page server, seen from the restore that has started it.
type Server struct {
	cmd    *exec.Cmd
	config *os.File // its end is the signal that the application runs
	answer *os.File
}

// Space is the memory of a process that is to be filled.
type Space struct {
	PID     int
	Uffd    int            // ours; the server takes a duplicate
	Path    string         // of the FOAM file
	FOAM    image.FOAM     // its layout
	Watched []image.Extent // what is registered with Uffd
	Missing Runs           // of it; none crosses a window

	Hot [][]image.Extent // what to bring in first, as image.Memory has it
}

// config is what a server is told.
type config struct {
	Kup       int // process ID of who has the descriptors
	Image     string
	Processes []int // all that are restored, those with nothing to fill included
	Spaces    []Space
}

// Start starts a page server. That it begins before there is anything to serve hides the time that it takes.
func Start() (*Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirs, config, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	answer, answers, err := os.Pipe()
	if err != nil {
		config.Close()
		return nil, err
	}
	defer answers.Close()
	// It lives longer than kup and must not hold what kup happens to have inherited.
	if err := kernel.CloseOnExecFrom(3); err != nil {
		return nil, err
	}
	cmd := exec.Command(self, Verb)
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout = theirs, answers
	cmd.SysProcAttr = kernel.NewSession()
	s := &Server{cmd, config, answer}
	if err := cmd.Start(); err != nil {
		s.close()
		return nil, fmt.Errorf("start a page server: %w", err)
	}
	go cmd.Wait() // for the case that kup stays
	return s, nil
}

// PID is the server's process ID.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Serve lets the server serve page faults, and returns once it does. The processes are all those of the application. The descriptors in
// spaces may be closed then.
func (s *Server) Serve(dir string, pids []int, spaces []Space) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := cbor.NewEncoder(s.config).Encode(config{os.Getpid(), dir, pids, spaces}); err != nil {
		return fmt.Errorf("page server (pid %d): %w", s.PID(), err)
	}
	text, err := bufio.NewReader(s.answer).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("page server (pid %d): %s", s.PID(), cmp.Or(text, "it has ended"))
	case err != nil:
		return fmt.Errorf("page server (pid %d): %w", s.PID(), err)
	case text != ready:
		return fmt.Errorf("page server (pid %d): %s", s.PID(), text[:len(text)-1])
	}
	return nil
}

// Release tells the server that the application runs, or that there is nothing to serve.
func (s *Server) Release() { s.close() }

func (s *Server) close() {
	s.config.Close()
	s.answer.Close()
}

// ready is the answer of a server that serves.
const ready = "serving\n"
