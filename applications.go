package kup

import "github.com/kup-project/kup/internal/app"

// Application is what is known of an application under kup's care.
type Application = app.Status

// RunOptions says what to start.
type RunOptions struct {
	State
	Name     string   // empty: after the program
	Argv     []string // the program and its arguments
	Detached bool     // input from /dev/null, output to a log; otherwise both are those of this process
}

// Started is an application that was just started, a child of this process.
type Started struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	Log  string `json:"log,omitempty"`

	store     *app.Store
	attendant *app.Attendant // nil if detached
}

// Run starts an application in a session of its own and puts it under kup's care.
func Run(o RunOptions) (*Started, error) {
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	started := &Started{store: store}
	if !o.Detached {
		started.attendant = app.NewAttendant()
	}
	r, err := store.Start(app.Spec{Name: o.Name, Argv: o.Argv, Detached: o.Detached})
	if err != nil {
		if started.attendant != nil {
			started.attendant.Close()
		}
		return nil, err
	}
	started.Name, started.PID, started.Log = r.Name, r.PID, r.Log
	return started, nil
}

// Outcome is how an application that was waited for came to its end.
type Outcome = app.Outcome

// Wait waits until an application that is not detached ends, and passes on the signals that this process gets in the meantime (INT, TERM, HUP, QUIT).
func (s *Started) Wait() (Outcome, error) {
	defer s.attendant.Close()
	status, err := s.attendant.Attend(s.PID)
	if err != nil {
		return Outcome{}, err
	}
	return s.store.Outcome(s.Name, s.PID, status)
}

// Applications returns all applications under kup's care, by name.
func Applications(s State) ([]Application, error) {
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	return store.Status()
}
