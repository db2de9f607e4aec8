package app

// CrashedWithMachine tells whether an application ran in an earlier boot of the machine and nobody has ended it or saved it since.
func (r *Record) CrashedWithMachine() (bool, error) {
	boot, err := bootID()
	return r.State == Running && r.Boot != boot, err
}

// Settled notes that the application runs and needs its image no more.
func (l *Locked) Settled() error {
	l.Image = ""
	return l.Save()
}
