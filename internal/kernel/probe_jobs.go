package kernel

// Need is a feature that a job uses.
type Need struct {
	*Feature
	// Only names the applications that need it; empty: the job cannot be done without it.
	Only string
}

// Way is one of the ways in which a job can be done.
type Way struct {
	Name  string // empty if there is only one
	Needs []Need
}

// Job is something that people ask kup for.
type Job struct {
	Name string
	Text string
	Ways []Way // best first
}

// Missing returns the needs that are not met: those without which this way is closed, and those that only some applications have.
func (w Way) Missing() (all, some []Need) {
	for _, n := range w.Needs {
		if n.Err() == nil {
			continue
		}
		if n.Only == "" {
			all = append(all, n)
		} else {
			some = append(some, n)
		}
	}
	return all, some
}

// Open returns the first way that is not closed.
func (j Job) Open() (way Way, ok bool) {
	for _, w := range j.Ways {
		if all, _ := w.Missing(); len(all) == 0 {
			return w, true
		}
	}
	return Way{}, false
}

func always(features ...*Feature) []Need {
	var needs []Need
	for _, f := range features {
		needs = append(needs, Need{Feature: f})
	}
	return needs
}

func only(applications string, features ...*Feature) []Need {
	needs := always(features...)
	for i := range needs {
		needs[i].Only = applications
	}
	return needs
}

func join(lists ...[]Need) []Need {
	var all []Need
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

const (
	withTCP  = "applications with TCP sockets"
	withUDP  = "applications with UDP sockets"
	withUnix = "applications with unix sockets"
)

var (
	toCheckpoint = join(
		always(FeatureCapPtrace, FeatureCapAdmin, FeatureSeize, FeatureSigMask, FeatureXState, FeatureRseq, FeatureProcMem,
			FeatureVMReadv, FeaturePidfdGetfd, FeatureKcmp, FeatureTimers),
		only(withTCP, FeatureCapNetAdmin, FeatureTCPRepair, FeatureNFTables, FeatureTCPDiag),
		only(withUDP, FeatureUDPDiag),
		only(withUnix, FeatureUnixDiag),
		only("applications that map deleted files or share memory", FeatureMapFiles),
	)
	toRestore = join(
		always(FeatureCapPtrace, FeatureCapAdmin, FeatureSeize, FeatureSigMask, FeatureXState, FeatureProcMem, FeatureMemfdExec, FeatureSetTID,
			FeatureMMMap, FeaturePidfdGetfd, FeatureCloseRange),
		only(withTCP, FeatureCapNetAdmin, FeatureTCPRepair, FeatureNFTables),
		only("applications whose hard limits, pipes or oom scores are above what is ordinary", FeatureCapResource),
		only("applications with System V shared memory", FeatureShmNextID),
		only("applications with hugetlb pages", FeatureHugeTLB),
		only("applications with guard pages that were made on a kernel that has them", FeatureGuard),
		only("images that were made before the last boot", FeatureTimeNS),
	)
)

// Jobs are what kup can be asked for, in the order in which `kup check` lists them. All but the first two are worth having, but kup is of
// use without them.
var Jobs = []Job{
	{"checkpoint", "save applications", []Way{{"", toCheckpoint}}},
	{"restore", "bring them back", []Way{{"", toRestore}}},
	{"update", "carry them over to another kernel", []Way{
		{"", join(always(FeatureKexecLoad, FeatureCapBoot, FeatureLastPID), toCheckpoint, toRestore)},
	}},
	{"carrier", "carry memory to another kernel: kup update --carrier", []Way{
		{"ram", always(FeatureKexecLoad, FeatureMemoryMap, FeatureMemoryBlocks, FeatureHugeTLB, FeaturePFN, FeatureDevMem)},
		{"frames=copy", always(FeatureKexecLoad, FeatureMemoryMap, FeatureMemoryBlocks, FeatureHugeTLB, FeaturePFN, FeatureDevMem)},
		{"disk", always(FeatureKexecLoad)},
	}},
	{"in place", "leave memory where it is: kup update --carrier frames; with kup's module (kup module build) nothing is copied", []Way{
		{"frames=module, frames=copy", always(FeatureKexecLoad, FeatureMemoryMap, FeatureMemoryBlocks, FeatureHugeTLB, FeaturePFN, FeatureDevMem)},
		{"frames=module", always(FeatureKexecLoad, FeatureMemoryMap, FeatureMemoryBlocks, FeatureHugeTLB, FeaturePFN)},
	}},
	{"pre-copy", "save most of the memory before the freeze: kup checkpoint --precopy", []Way{
		{"WP_ASYNC", always(FeatureUserfaultfd, FeatureWPAsync, FeaturePagemapScan)},
		{"soft-dirty", always(FeatureSoftDirty, FeaturePFN)},
	}},
	{"on-demand", "run before all memory is back: kup restore --on-demand", []Way{
		{"", always(FeatureUserfaultfd, FeatureUffdEvents)},
	}},
}

// Features returns all features, each once.
func Features() []*Feature {
	return []*Feature{
		FeatureCapPtrace, FeatureCapAdmin, FeatureCapCheckpoint, FeatureCapNetAdmin, FeatureCapResource, FeatureCapBoot,
		FeatureSeize, FeatureSigMask, FeatureXState, FeatureRseq, FeatureSuspendSeccomp, FeatureProcMem, FeatureVMReadv,
		FeaturePidfdGetfd, FeatureKcmp, FeatureTimers, FeatureMapFiles,
		FeatureMemfdExec, FeatureSetTID, FeatureMMMap, FeatureTimerIDs, FeatureTimeNS, FeatureCloseRange, FeatureLastPID, FeatureFIFO,
		FeatureUserfaultfd, FeatureUffdEvents, FeatureWPAsync, FeaturePagemapScan, FeatureSoftDirty, FeaturePFN,
		FeatureGuard, FeatureDroppable, FeatureHugeTLB, FeatureShmNextID,
		FeatureTCPRepair, FeatureNFTables, FeatureTCPDiag, FeatureUDPDiag, FeatureUnixDiag,
		FeatureKexecLoad, FeatureKexecFileLoad, FeatureMemoryMap, FeatureMemoryBlocks, FeatureDevMem, FeatureLiveUpdate,
	}
}
