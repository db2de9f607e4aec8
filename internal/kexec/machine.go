package kexec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

const (
	loadedFile    = "/sys/kernel/kexec_loaded"
	disabledFile  = "/proc/sys/kernel/kexec_load_disabled"
	loadLimitFile = "/proc/sys/kernel/kexec_load_limit_reboot"
	lockdownFile  = "/sys/kernel/security/lockdown"

	capSysBoot = 22 // include/uapi/linux/capability.h

	// initPidNamespace is /proc/self/ns/pid in the first pid namespace: PROC_PID_INIT_INO of include/linux/proc_ns.h.
	initPidNamespace = "pid:[4026531836]"
)

// CheckMachine tells whether the running kernel lets this process load and start another one, whichever. It changes nothing.
func CheckMachine() error {
	if _, err := os.Stat(loadedFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it was built without CONFIG_KEXEC; boot a kernel that has it", ErrNoKexec)
	}
	if err := checkSysctls(); err != nil {
		return err
	}
	if mode, err := readTrimmed(lockdownFile); err == nil && lockedDown(mode) {
		return fmt.Errorf("%w (%s: %s): it starts signed kernels only, by kexec_file_load, which KUP cannot use; "+
			"turn Secure Boot off or boot without lockdown=", ErrLockdown, lockdownFile, mode)
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil && ns != initPidNamespace {
		return fmt.Errorf("%w: this is a container (its pid namespace is not the machine's), "+
			"and only the machine itself can change its kernel; run kup there", ErrPermission)
	}
	return checkPermission()
}

func checkSysctls() error {
	if text, err := readTrimmed(disabledFile); err == nil && text != "0" {
		return fmt.Errorf("%w: the sysctl kernel.kexec_load_disabled is set, and only a reboot resets it", ErrDisabled)
	}
	if text, err := readTrimmed(loadLimitFile); err == nil && text == "0" {
		return fmt.Errorf("%w: the sysctl kernel.kexec_load_limit_reboot allows no more loading until a reboot", ErrDisabled)
	}
	return nil
}

func checkPermission() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if !hasCapability(string(status), capSysBoot) {
		return fmt.Errorf("%w: CAP_SYS_BOOT is missing; run as root", ErrPermission)
	}
	if text, err := readTrimmed(loadLimitFile); err == nil && text != "-1" {
		return nil // asking the kernel would use up one load
	}
	err = explain(kernel.KexecPermitted())
	switch {
	case errors.Is(err, ErrNoKexec):
		return fmt.Errorf("%w; it was built without CONFIG_KEXEC, or a seccomp filter hides it", err)
	case errors.Is(err, ErrPermission):
		return fmt.Errorf("%w; a security module or a seccomp filter forbids kexec_load, see the kernel log", err)
	}
	return err
}

// lockedDown reads "none [integrity] confidentiality", where the brackets mark what is in force.
func lockedDown(mode string) bool {
	return strings.Contains(mode, "[") && !strings.Contains(mode, "[none]")
}

// hasCapability tells whether a /proc/PID/status has a capability in its effective set.
func hasCapability(status string, bit int) bool {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			return err == nil && set>>bit&1 == 1
		}
	}
	return false
}
