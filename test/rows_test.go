package test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// table lists every property that KUP keeps.
func table() []row { return slices.Concat(taskRows, memoryRows, objectRows, netRows, languageRows) }

var taskRows = []row{
	{name: "basic", source: "task/basic"},
	{name: "static", source: "task/basic", flags: []string{"-static"}},
	{name: "tree", source: "task/tree"},
	{name: "deadsession", source: "task/deadsession"},
	{name: "stopped", source: "task/stopped"},
	{name: "threads", source: "task/threads"},
	{name: "deadleader", source: "task/deadleader", either: true},
	{name: "registers", source: "task/registers"},
	{name: "pkeys", source: "task/pkeys"},
	{name: "tls", source: "task/tls"},
	{name: "robust", source: "task/robust"},
	{name: "rseq", source: "task/rseq"},
	{name: "signals", source: "task/signals"},
	{name: "faults", source: "task/faults", restless: true},
	{name: "pending", source: "task/pending"},
	{name: "altstack", source: "task/altstack"},
	{name: "itimers", source: "task/itimers", restless: true},
	{name: "posixtimers", source: "task/posixtimers", restless: true},
	{name: "sleeping", source: "task/sleeping"},
	{name: "polling", source: "task/polling"},
	{name: "futexes", source: "task/futexes"},
	{name: "blocked", source: "task/blocked"},
	{name: "limits", source: "task/limits"},
	{name: "prctls", source: "task/prctls"},
	{name: "scheduling", source: "task/scheduling"},
	{name: "credentials", source: "task/credentials"},
	{name: "paths", source: "task/paths"},
}

var memoryRows = []row{
	{name: "anonymous", source: "memory/anonymous"},
	{name: "privatefile", source: "memory/privatefile"},
	{name: "sharedfile", source: "memory/sharedfile"},
	{name: "sharedanonymous", source: "memory/sharedanonymous"},
	{name: "memfds", source: "memory/memfds", restless: true},
	{name: "sysvshm", source: "memory/sysvshm"},
	{name: "heap", source: "memory/heap", restless: true},
	{name: "stack", source: "memory/stack"},
	{name: "vdso", source: "memory/vdso"},
	{name: "protections", source: "memory/protections"},
	{name: "advice", source: "memory/advice", restless: true},
	{name: "locked", source: "memory/locked"},
	{name: "lockall", source: "memory/lockall"},
	{name: "hugepages", source: "memory/hugepages", restless: true},
	{name: "fragmented", source: "memory/fragmented"},
	{name: "hugetlb", source: "memory/hugetlb", prepare: reserveHugePages},
	{name: "guards", source: "memory/guards"},
	{name: "noreserve", source: "memory/noreserve"},
	{name: "names", source: "memory/names"},
	{name: "neighbours", source: "memory/neighbours"},
	{name: "droppable", source: "memory/droppable"},
	{name: "ondemand", source: "memory/ondemand", restless: true},
}

var objectRows = []row{
	{name: "files", source: "object/files", restless: true},
	{name: "opath", source: "object/paths"},
	{name: "deleted", source: "object/deleted"},
	{name: "deletedmapped", source: "object/deleted", flags: []string{"-DMAPPED"}, either: true},
	{name: "directory", source: "object/directory"},
	{name: "devices", source: "object/devices"},
	{name: "procfiles", source: "object/procfiles", restless: true},
	{name: "pipes", source: "object/pipes"},
	{name: "fifos", source: "object/fifos"},
	{name: "eventfds", source: "object/eventfds"},
	{name: "epolls", source: "object/epolls"},
	{name: "timerfds", source: "object/timerfds"},
	{name: "signalfds", source: "object/signalfds"},
	{name: "locks", source: "object/locks", either: true, restless: true},
	{name: "owners", source: "object/owners"},
}

var netRows = []row{
	{name: "unixstream", source: "net/unixstream"},
	{name: "unixpackets", source: "net/unixpackets"},
	{name: "unixlisten", source: "net/unixlisten"},
	{name: "unixpending", source: "net/unixpending", either: true},
	{name: "unixrights", source: "net/unixrights", either: true},
	{name: "tcplisten", source: "net/tcplisten"},
	{name: "tcppair", source: "net/tcppair"},
	{name: "tcpoptions", source: "net/tcpoptions"},
	{name: "tcpclosing", source: "net/tcpclosing"},
	{name: "tcppeer", source: "net/tcppeer", peer: talkTCP},
	{name: "tcpshortlived", source: "net/shortlived", peer: knock, restless: true},
	{name: "mptcpshortlived", source: "net/shortlived", flags: []string{"-DMULTIPATH"}, peer: knock, restless: true},
	{name: "udp", source: "net/udp"},
	{name: "udpqueued", source: "net/udpqueued", either: true},
}

var languageRows = []row{
	{name: "go", source: "golang", golang: true, restless: true},
	{name: "bash", source: "task/pipeline.sh", restless: true},
}

// reserveHugePages gives the kernel's pool enough pages for the program and its restored twin, and takes them back.
func reserveHugePages(t *testing.T) {
	const pool = "/proc/sys/vm/nr_hugepages"
	before, err := os.ReadFile(pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(pool, before, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(pool, []byte("16"), 0); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(pool); strings.TrimSpace(string(got)) != "16" {
		t.Fatalf("the kernel reserved %s of 16 huge pages", strings.TrimSpace(string(got)))
	}
}
