package app

// CrashedWithMachine tells whether an application ran in an earlier boot of the machine and nobody has ended it or saved it since.
func (r *Record) CrashedWithMachine() (bool, error) {
	boot, err := bootID()
	return r.State == Running && r.Boot != boot, err
}

// Lost notes that the image of an update is of no use: the application ended with the machine, or its memory. Former is its last checkpoint before that, "" if none.
func (l *Locked) Lost(former string) error {
	l.Image, l.Boot = former, "" // it may have run for a while under this kernel
	l.set(Running)
	return l.Save()
}

// Settled notes that the application needs the image of an update no more. Former is its last checkpoint before that, "" if none.
func (l *Locked) Settled(former string) error {
	l.Image = former
	return l.Save()
}
