package task

import (
	"encoding/binary"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// credentials takes the seed from kup's credentials, now, to the thread's. While the user IDs change, NO_SETUID_FIXUP keeps the
// capabilities, which are dropped last.
func credentials(t *image.Thread, b *tracee.Batch, now *procfs.Status) error {
	if missing := t.Creds.Permitted &^ now.CapPermitted; missing != 0 {
		return fmt.Errorf("thread %d had capabilities %#x that kup lacks, so it cannot give them back; run kup with them", t.TID, missing)
	}
	for capability := range 64 {
		if bit := uint64(1) << capability; now.CapBounding&bit != 0 && t.Creds.Bounding&bit == 0 {
			b.Must("drop a capability from the bounding set", kernel.SysPrctl, kernel.PrCapBSetDrop, capability, 0, 0, 0)
		}
	}
	const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP
	b.Must("keep capabilities", kernel.SysPrctl, kernel.PrSetSecureBits, noSetuidFixup, 0, 0, 0)
	setIDs(b, &t.Creds)
	b.Must("set the inheritable capabilities", kernel.SysCapset, capHeader(b), capData(b, now.CapEffective, now.CapPermitted, t.Creds.Inheritable))
	for capability := range 64 {
		if t.Creds.Ambient&(1<<capability) != 0 {
			b.Must("raise an ambient capability", kernel.SysPrctl, kernel.PrCapAmbient, kernel.PrCapAmbientRaise, capability, 0, 0)
		}
	}
	b.Must("set the secure bits", kernel.SysPrctl, kernel.PrSetSecureBits, t.Creds.SecureBits, 0, 0, 0)
	if t.NoNewPrivs {
		b.Must("set no_new_privs", kernel.SysPrctl, kernel.PrSetNoNewPrivs, 1, 0, 0, 0)
	}
	b.Must("set the capabilities", kernel.SysCapset, capHeader(b), capData(b, t.Creds.Effective, t.Creds.Permitted, t.Creds.Inheritable))
	return nil
}

func setIDs(b *tracee.Batch, c *image.Creds) {
	groups := make([]byte, 0, 4*len(c.Groups))
	for _, g := range c.Groups {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	b.Must("set the groups", kernel.SysSetgroups, len(c.Groups), b.Bytes(groups))
	b.Must("set the group IDs", kernel.SysSetresgid, c.GIDs[0], c.GIDs[1], c.GIDs[2])
	b.Call(kernel.SysSetfsgid, c.GIDs[3]) // returns the old one
	b.Must("set the user IDs", kernel.SysSetresuid, c.UIDs[0], c.UIDs[1], c.UIDs[2])
	b.Call(kernel.SysSetfsuid, c.UIDs[3])
}

// capHeader is struct __user_cap_header_struct for the calling thread, _LINUX_CAPABILITY_VERSION_3.
func capHeader(b *tracee.Batch) *tracee.Buffer { return b.Words(0x20080522) }

// capData is two struct __user_cap_data_struct: effective, permitted and inheritable, low halves first.
func capData(b *tracee.Batch, effective, permitted, inheritable uint64) *tracee.Buffer {
	data := make([]byte, 0, 24)
	for shift := 0; shift < 64; shift += 32 {
		for _, set := range []uint64{effective, permitted, inheritable} {
			data = binary.LittleEndian.AppendUint32(data, uint32(set>>shift))
		}
	}
	return b.Bytes(data)
}
