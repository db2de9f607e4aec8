package kernel

import "golang.org/x/sys/unix"

// Options of prctl(2), include/uapi/linux/prctl.h.
const (
	PrSetPDeathSig      = unix.PR_SET_PDEATHSIG
	PrGetPDeathSig      = unix.PR_GET_PDEATHSIG
	PrGetDumpable       = unix.PR_GET_DUMPABLE
	PrSetDumpable       = unix.PR_SET_DUMPABLE
	PrSetName           = unix.PR_SET_NAME
	PrCapBSetDrop       = unix.PR_CAPBSET_DROP
	PrGetTSC            = unix.PR_GET_TSC
	PrSetTSC            = unix.PR_SET_TSC
	PrGetSecureBits     = unix.PR_GET_SECUREBITS
	PrSetSecureBits     = unix.PR_SET_SECUREBITS
	PrSetTimerSlack     = unix.PR_SET_TIMERSLACK
	PrGetTimerSlack     = unix.PR_GET_TIMERSLACK
	PrMCEKill           = unix.PR_MCE_KILL
	PrMCEKillSet        = unix.PR_MCE_KILL_SET
	PrMCEKillGet        = unix.PR_MCE_KILL_GET
	PrSetMM             = unix.PR_SET_MM
	PrSetMMMap          = unix.PR_SET_MM_MAP
	PrSetChildSubreaper = unix.PR_SET_CHILD_SUBREAPER
	PrGetChildSubreaper = unix.PR_GET_CHILD_SUBREAPER
	PrSetNoNewPrivs     = unix.PR_SET_NO_NEW_PRIVS
	PrGetTIDAddress     = unix.PR_GET_TID_ADDRESS
	PrSetTHPDisable     = unix.PR_SET_THP_DISABLE
	PrGetTHPDisable     = unix.PR_GET_THP_DISABLE
	PrCapAmbient        = unix.PR_CAP_AMBIENT
	PrCapAmbientRaise   = unix.PR_CAP_AMBIENT_RAISE
	PrGetMDWE           = unix.PR_GET_MDWE
	PrSetVMA            = unix.PR_SET_VMA
	PrSetVMAAnonName    = unix.PR_SET_VMA_ANON_NAME
	// PrTimerCreateRestoreIDs lets timer_create(2) take the ID from its result argument, since v6.15.
	PrTimerCreateRestoreIDs = 77
)
