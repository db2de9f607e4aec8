package update

import "github.com/kup-project/kup/internal/kexec"

// meter is how much more memory is in use than before anything was restored, where applications get memory back that the last kernel has left in place.
type meter struct {
	before uint64 // available memory when nothing was restored, bytes
	most   uint64 // how much less it was at most since, bytes
}

func newMeter() (*meter, error) {
	available, err := kexec.AvailableMemory()
	return &meter{before: available}, err
}

// read is how much memory is available, in bytes.
func (m *meter) read() (available uint64, err error) {
	if available, err = kexec.AvailableMemory(); err == nil && available < m.before {
		m.most = max(m.most, m.before-available)
	}
	return available, err
}

// gained says that the kernel was given memory which was no application's, in bytes.
func (m *meter) gained(bytes uint64) { m.before += bytes }

// measure reads the meter, if this boot has one.
func (b *boot) measure() error {
	if b.meter == nil {
		return nil
	}
	_, err := b.meter.read()
	return err
}
