package app

// CrashedWithMachine tells whether an application ran in an earlier boot of the machine and nobody has ended it or saved it since.
func (r *Record) CrashedWithMachine() (bool, error) {
	boot, err := bootID()
	return r.State == Running && r.Boot != boot, err
}

// Settled notes that the application needs the image of an update no more. Former is its last checkpoint before that, "" if none.
func (l *Locked) Settled(former string) error {
	l.Image = former
	return l.Save()
}
