package checkpoint

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/netlock"
)

// requestsLock names the lock of lockRequests.
func (s *Session) requestsLock() string { return fmt.Sprintf("%d-requests", s.options.Root) }

// lockRequests keeps the kernel from making connections for a frozen application on sockets that cannot be made deaf: they would wait to be
// accepted, and be lost. Like object.Hush it stays when the application is thawed to be frozen once more.
func (s *Session) lockRequests() error {
	if s.requests != nil {
		return nil
	}
	addresses, err := s.objects.Undeafened()
	if err != nil || len(addresses) == 0 {
		return err
	}
	var endpoints []netlock.Endpoint
	for _, a := range addresses {
		endpoints = append(endpoints, netlock.Endpoint{Protocol: kernel.IPProtoTCP, Local: a})
	}
	lock, err := netlock.LockRequests(s.requestsLock(), endpoints)
	if errors.Is(err, netlock.ErrUnavailable) {
		return nil // The application can run on all the same. What comes in is refused by captureNetwork.
	}
	s.requests = lock
	return err
}

func (s *Session) unlockRequests() error {
	if s.requests == nil {
		return nil
	}
	err := netlock.Unlock(s.requestsLock())
	if err == nil {
		err = s.requests.Keep()
	}
	s.requests = nil
	return err
}

// captureNetwork comes last: what peers send until then is in the image, and need not be sent again.
func (s *Session) captureNetwork() error {
	if err := s.objects.CaptureNetwork(); err != nil {
		return err
	}
	if len(netlock.Endpoints(s.state)) > 0 {
		s.state.NetLock = fmt.Sprintf("%d-%x", s.options.Root, s.state.Host.Realtime)
	}
	return nil
}

// silence makes the application's connections vanish without a word when its processes end. If kup dies before it returns, the application
// runs on as if nothing had happened; afterwards, what it returns ends all processes in that case.
func (s *Session) silence() (ending *kernel.Will, err error) {
	if s.state.NetLock == "" {
		return s.pointOfNoReturn()
	}
	lock, err := netlock.LockTentatively(s.state.NetLock, netlock.Endpoints(s.state))
	if err != nil {
		return nil, err
	}
	if err = s.objects.SealNetwork(); err == nil {
		ending, err = s.pointOfNoReturn()
	}
	if err != nil {
		return nil, errors.Join(err, s.objects.UnsealNetwork(), netlock.Unlock(s.state.NetLock), lock.Keep())
	}
	s.objects.KeepSeal()
	return ending, lock.Keep()
}

// pointOfNoReturn makes sure that the processes end, and all of them, even if kup dies while it ends them.
func (s *Session) pointOfNoReturn() (*kernel.Will, error) {
	var pids []int
	for _, p := range s.frozen.Processes {
		pids = append(pids, p.PID)
	}
	return kernel.KillOnDeath(pids)
}

// releaseObjects gives up whatever is held of objects. The application is thawed or gone.
func (s *Session) releaseObjects() error {
	if s.objects == nil {
		return nil
	}
	s.objects.Release()
	return errors.Join(s.hush.End(), s.objects.ReleaseSockets(), s.unlockRequests())
}
